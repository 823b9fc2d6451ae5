// The short ids under which a prompt names its documents, so that an answer can cite them.
#pragma once

#include <string>
#include <vector>

#include "spanwise/prompt.h"

namespace spanwise {

// One label a document, in the documents' order: its own id where that is a number from 1 to 999, else a number derived
// from what it says (hash of title and text modulo 999, plus 1). So a text keeps its label, and with it its KV, under
// any id, at any place and, but for clashes, in any company. Documents that say the same share one. Clashes move to the
// next free number in an order that depends on what the documents say alone; those with a salt come last (`salt` is
// that of documents without their own), so that no private text moves a public one. Past 999 labels go on from 1000.
std::vector<std::string> AssignLabels(const std::vector<Document>& documents, const std::string& salt = {});

// Documents without an id are called by their place, from 1.
void NameDocuments(std::vector<Document>* documents);

}  // namespace spanwise
