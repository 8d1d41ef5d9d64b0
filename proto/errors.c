// SPDX-License-Identifier: MIT
//
// The table of errors.def and the maker of reasons.  Pure.

#include "proto/errors.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

#include "proto/text.h"

static const fleet_error_spec_t specs[] = {
    {"ok", fleet_severity_INFO, false, false, 0, "Nothing is wrong."},
#define ERROR(NAME, code, SEVERITY, waivable, retry, exit, meaning)            \
    {code, fleet_severity_##SEVERITY, waivable, retry, exit, meaning},
#include "proto/errors.def"
};

const fleet_error_spec_t *fleet_error_spec(fleet_err_t err) {
    assert((unsigned)err < FLEET_ERR_END);
    return &specs[err];
}

fleet_err_t fleet_error_find(const char *code) {
    for (unsigned err = FLEET_OK + 1; err < FLEET_ERR_END; err++) {
        if (strcmp(specs[err].code, code) == 0) {
            return (fleet_err_t)err;
        }
    }
    return FLEET_OK;
}

void fleet_reason_make(fleet_reason_t *reason, fleet_err_t err,
                       const char *format, ...) {
    const fleet_error_spec_t *spec = fleet_error_spec(err);
    memset(reason, 0, sizeof(*reason));
    FLEET_COPY(reason->code, spec->code);
    reason->severity = spec->severity;
    reason->waivable = spec->waivable;
    reason->retry = spec->retry;
    va_list arguments;
    va_start(arguments, format);
    fleet_text_vformat(reason->text, sizeof(reason->text), format, arguments);
    va_end(arguments);
}

void fleet_reason_hint(fleet_reason_t *reason, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fleet_text_vformat(reason->hint, sizeof(reason->hint), format, arguments);
    va_end(arguments);
}
