// What a person can mend.
#pragma once

#include <stdexcept>

namespace codetr {

// One line: what, what was got, what to do.
struct UserError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

} // namespace codetr
