// SPDX-License-Identifier: MIT
//
// Bytes without their runs of zeros.  The core's durable block is sized by the
// limits of the site and mostly empty: a snapshot of it should cost what is in
// it.

#ifndef FLEET_BROKER_SQUEEZE_H
#define FLEET_BROKER_SQUEEZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The squeezed bytes; the caller frees.
void squeeze(const uint8_t *bytes, size_t size, uint8_t **ret_squeezed,
             size_t *ret_size);

// Fills exactly `size` bytes.  False, with bytes in an undefined state, if what
// was squeezed is of another size, or damaged.
bool squeeze_undo(const uint8_t *squeezed, size_t squeezed_size, uint8_t *bytes,
                  size_t size);

#endif
