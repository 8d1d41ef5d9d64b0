// SPDX-License-Identifier: MIT
//
// A process that outlives the call of an agent: for what nobody has to wait
// for.

#ifndef FLEET_NODE_DETACH_H
#define FLEET_NODE_DETACH_H

#include <stdbool.h>

// Forks a grandchild in a session of its own that belongs to nobody and holds
// no descriptor of the caller (whoever waits for the end of a pipe is not kept
// waiting).  True in the grandchild, which must end with _exit; false in the
// caller, where ret_err is 0 or the errno value for which there is no
// grandchild.
bool detach(int *ret_err);

#endif
