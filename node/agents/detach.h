// SPDX-License-Identifier: MIT
//
// A process that outlives the call of an agent: for what nobody has to wait
// for.

#ifndef FLEET_NODE_DETACH_H
#define FLEET_NODE_DETACH_H

#include <stdbool.h>

// Forks a child in a session of its own that holds no descriptor of the caller
// (whoever waits for the end of a pipe is not kept waiting).  Nobody waits for
// it: the caller is the process of one act and ends soon, and then the child is
// adopted and reaped like any orphan.  True in the child, which must end with
// _exit; false in the caller, where ret_err is 0 or the errno value for which
// there is no child.
bool detach(int *ret_err);

#endif
