// SPDX-License-Identifier: MIT
//
// Messages to bytes and back.  On the wire a message is one MessagePack array:
// its number, then its fields in the order of messages.def.  Texts are str,
// keys are bin, lists and records are arrays.  One message has one encoding.

#ifndef FLEET_CODEC_H
#define FLEET_CODEC_H

#include "proto/errors.h"

// Encodes a message into buffer.  ret_used is the number of bytes written.
// FLEET_BAD_MESSAGE if it does not fit in size (FLEET_FRAME_MAX always does),
// if a text is not terminated or no UTF-8, if a count is above its bound or if
// a number is none of its enumeration: what this refuses is what fleet_decode
// refuses.
fleet_err_t fleet_encode(const fleet_message_t *message, uint8_t *buffer,
                         size_t size, size_t *ret_used);

// Decodes one message that fills exactly `size` bytes.  Sizes, counts, depth
// and the total number of objects are checked against the bytes there are
// before msgpack allocates anything.  Texts with a NUL byte or invalid UTF-8,
// numbers of enumerations that are none, missing or additional fields and bytes
// left over are refused, and so is every form of a value but its shortest. Only
// the type and the struct of that type are written, not the whole union. On
// failure ret_message is untouched and FLEET_BAD_MESSAGE is returned, with what
// was wrong in ret_why (may be NULL).
fleet_err_t fleet_decode(const uint8_t *bytes, size_t size,
                         fleet_message_t *ret_message, fleet_text_t *ret_why);

// The protocol version that a frame claims, if it is a first message (hello,
// open, welcome, hello_ok, turned_away); else 0.  Works for versions that are
// not spoken here: it reads the number and the first field and nothing else.
uint64_t fleet_peek_protocol(const uint8_t *bytes, size_t size);

#endif
