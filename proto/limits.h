// SPDX-License-Identifier: MIT
//
// Every bound of the wire and of the two cores, in one place.  A message is a
// plain value: each of its fields has one of these sizes, so that it can be
// copied, compared and sent without anybody owning anything.

#ifndef FLEET_LIMITS_H
#define FLEET_LIMITS_H

// The version of the protocol that the first message of a connection names.
#define FLEET_PROTOCOL 1

// Sizes of text, in bytes without the terminating NUL.
#define FLEET_NAME_MAX 32 // a set, a node, a resource, a site, a person
#define FLEET_ID_MAX 64 // a boot id, a request id, an address, "operator:NAME"
#define FLEET_TEXT_MAX 256   // a sentence for people
#define FLEET_WORDS_MAX 1024 // the last words of a daemon that failed
#define FLEET_YAML_MAX 16384 // the definition of a set, as its author wrote it
#define FLEET_KEY_SIZE 32    // a public key, a hash
#define FLEET_SIGNATURE_SIZE 64

// Numbers that JSON, SQLite and a reservation key can all hold (design, 5).
#define FLEET_TOKEN_MAX ((UINT64_C(1) << 40) - 1)
#define FLEET_SEQ_MAX ((UINT64_C(1) << 53) - 1)
#define FLEET_TERM_MAX ((UINT64_C(1) << 53) - 1)

// Counts.
#define FLEET_PAIRS_MAX 256    // records of sets that one node keeps
#define FLEET_REASONS_MAX 16   // reasons of one refusal
#define FLEET_STEPS_MAX 64     // steps of one transfer
#define FLEET_SET_NODES_MAX 32 // nodes that a definition may list
#define FLEET_ADDRESSES_MAX 8  // addresses of one set
#define FLEET_RESOURCES_MAX 16 // resources of one set
#define FLEET_IGNORES_MAX 8    // reasons that one request may waive
#define FLEET_HOLDERS_MAX 4    // who holds a file system, as far as it is said

// The longest encoded message; ZMQ_MAXMSGSIZE is set to it.
#define FLEET_FRAME_MAX (256 * 1024)

#endif
