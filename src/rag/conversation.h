// What a conversation means for its next turn: what to search for, and what to leave out when it has grown too long.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "spanwise/engine.h"
#include "spanwise/prompt.h"
#include "spanwise/status.h"

namespace spanwise::rag {

// What to search for, for the last thing that the user said.
struct SearchQuestion {
  std::string alone;     // as it was said
  std::string complete;  // with what the turns before it add; equal to `alone` where they add nothing
  // How many of the passages wanted come from `complete`, in quarters: few where the question names things of
  // its own.
  int quarters = 0;
};

// Empty where the user said nothing. Whoever asks on says "it", leaves the thing out, or names another thing and leaves
// out what is asked of it. So
//   - a question without a name gets the names of the last question before it that has some, and of its answer; where
//   no
//     earlier one has any, all words of the one before it;
//   - one that has a name, and hardly another word, gets the words of the one before it that are no names;
//   - one with a name and a pronoun ("Did she found it in Tessenford?") gets names as well;
//   - any other stays as it is.
// A name is a word with a capital that does not begin a sentence, several words with capitals, or a word with a digit.
// Scripts without capitals have names with digits only, and so are mostly completed by all words. A pure function.
SearchQuestion QuestionToSearch(const std::vector<Message>& messages);

// Makes a request fit by leaving out the oldest turns: user messages, each with what follows it up to the next. System
// messages at the start, documents and the last user message stay. `size` is Engine::Measure of a request. Nothing is
// left out while there is room for the answer wanted (max_tokens, and at most a quarter of `context_tokens`); else as
// much as it takes, and then, while over half of the turns are left, up to an eighth of `context_tokens` more, so that
// the next turns need not do it again and find their KV. Returns how many turns were left out. Where the last message
// alone does not fit, only that is left, and the request will fail.
Result<int> FitConversation(const std::function<Result<PromptSize>(const Request&)>& size, int context_tokens,
                            Request* request);

}  // namespace spanwise::rag
