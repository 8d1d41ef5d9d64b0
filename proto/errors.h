// SPDX-License-Identifier: MIT
//
// The codes of errors.def, and the one way to make a REASON.

#ifndef FLEET_ERRORS_H
#define FLEET_ERRORS_H

#include "proto/messages.h"

// FLEET_OK, FLEET_NO_SLOT ... ; 0 is success wherever fleet_err_t is returned.
typedef enum fleet_err {
    FLEET_OK = 0,
#define ERROR(NAME, code, SEVERITY, waivable, retry, exit, meaning)            \
    FLEET_##NAME,
#include "proto/errors.def"
    FLEET_ERR_END
} fleet_err_t;

typedef struct fleet_error_spec {
    const char *code;
    fleet_severity_t severity;
    bool waivable;
    bool retry;
    int exit; // exit status of a command refused for this alone
    const char *meaning;
} fleet_error_spec_t;

// The row of a code; "ok" for FLEET_OK.  err must be in range.
const fleet_error_spec_t *fleet_error_spec(fleet_err_t err);

// The code of that word; FLEET_OK if there is none.
fleet_err_t fleet_error_find(const char *code);

// Fills a reason: code, severity, waivable and retry from the row, text by the
// format (cut at FLEET_TEXT_MAX bytes at a character's boundary); set, node,
// resource, hint and since stay empty for the caller to fill.  Pure.
void fleet_reason_make(fleet_reason_t *reason, fleet_err_t err,
                       const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Sets the hint, likewise.
void fleet_reason_hint(fleet_reason_t *reason, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
