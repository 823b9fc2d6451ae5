// The short ids under which a prompt names its documents, so that an answer can cite them.
#pragma once

#include <string>
#include <vector>

#include "spanwise/prompt.h"

namespace spanwise {

// One label a document, in the documents' order: its own id where that is a number from 1 to 999, else a number derived
// from the id (hash modulo 999, plus 1). Clashes move to the next free number in an order that does not depend on the
// order of the documents, so that a document keeps its label, and with it its KV, wherever it stands. Past 999
// documents labels go on from 1000.
std::vector<std::string> AssignLabels(const std::vector<Document>& documents);

}  // namespace spanwise
