// The members of a request's "spanwise" object that say how an answer is built up from several pieces of generation.
#pragma once

#include "server/fields.h"
#include "spanwise/engine.h"

namespace spanwise::server {

void ReadStructure(Fields& options, Request* request);

}  // namespace spanwise::server
