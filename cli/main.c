// SPDX-License-Identifier: MIT
//
// fleet, the command line.

#include "cli/cli.h"

int main(int argc, char **argv) {
    return cli_run(argc, argv);
}
