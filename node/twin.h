// SPDX-License-Identifier: MIT
//
// A small text that is changed often and must survive a power cut at any
// instant: old or new, never neither.  The file has two halves of one sector
// each; a write goes into the half that is not the newest, so that one
// fdatasync of a file that keeps its size is all it costs.  Each half has a
// number and a checksum.  (Written anew and renamed, the same would cost two
// fsyncs and two commits of the file system's journal; a node does this twice
// in the pause of every move.)

#ifndef FLEET_NODE_TWIN_H
#define FLEET_NODE_TWIN_H

#include "proto/errors.h"

#define TWIN_TEXT_MAX 400

typedef struct twin {
    uint64_t number; // of the newest half; 0: there is no file
    char text[TWIN_TEXT_MAX + 1];
} twin_t;

// Reads the newest half that is whole.  FLEET_OK with number 0 if there is no
// such file.  FLEET_BAD_FILE, with what and why, if neither half is whole.
fleet_err_t twin_read(int dir, const char *name, twin_t *ret_twin,
                      fleet_text_t ret_why);

// Writes `text` (at most TWIN_TEXT_MAX bytes) as number + 1, durably, and only
// then changes *twin.  FLEET_STORE_FAILED with why.
fleet_err_t twin_write(int dir, const char *name, const char *text,
                       twin_t *twin, fleet_text_t ret_why);

// Writes a whole file durably under its name: old or new.  For what is larger
// and changes seldom.
fleet_err_t twin_write_whole(int dir, const char *name, const void *bytes,
                             size_t size, fleet_text_t ret_why);

#endif
