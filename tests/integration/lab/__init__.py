# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory: hosts as network namespaces, guests, clients and faults, for tests, demonstration and benchmarks."""
