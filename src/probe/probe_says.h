/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A record's cause in one line, from the probe's says= text. In it
 *   {LABEL}         is a field
 *   {LABEL:signal}  a signal's name; also out of a process's exit code
 *   {LABEL:hex}     a number as 0x...
 *   {LABEL:error}   an error's name and number, whatever its sign
 *   {LABEL:sender}  who sent a signal with that code: "the kernel", or the process of the fields sender_comm and sender
 * What is no field stays as it is; a value whose memory was not there is "?".
 */
#ifndef FUT_PROBE_SAYS_H
#define FUT_PROBE_SAYS_H

#include "probe.h"

/* At most FUT_PROBE_CAUSE_MAX bytes, one line, UTF-8, whatever the guest has put into the values. Without says= the fields follow one
 * another. Caller frees. */
#define FUT_PROBE_CAUSE_MAX 400u
char *fut_probe_says(const FutProbe *probe, const FutProbeValue *values);
/* A value as text: numbers, 0x... for pointers, "?" where nothing was. Caller frees. */
char *fut_probe_value_text(const FutProbeValue *value);

#endif
