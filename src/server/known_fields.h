// The members that the objects of requests may have: docs/http.md, "Fields", tells of all that are not simply read.
#pragma once

#include "server/fields.h"

namespace spanwise::server {

extern const FieldTable kChatFields, kCompletionFields, kTokenizeFields, kDetokenizeFields;  // bodies
extern const FieldTable kMessageFields, kContentPartFields, kDocumentFields, kStreamOptionsFields;
extern const FieldTable kChatOptionFields, kCompletionOptionFields;  // "spanwise"
extern const FieldTable kContinuationFields;                         // an entry of branches or steps

}  // namespace spanwise::server
