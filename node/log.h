// SPDX-License-Identifier: MIT
//
// The log of the node: lines on stderr, with the levels of sd-daemon(3) in
// front where the journal reads them.

#ifndef FLEET_NODE_LOG_H
#define FLEET_NODE_LOG_H

// A human must act; somebody should know; a decision was taken.
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
