// SPDX-License-Identifier: MIT
typedef int fleet_placeholder_t;
