/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The note that is kept beside a disk's image. */
#include "disk_note.h"

#include "byteorder.h"

#define MAGIC UINT64_C(0x31646e4e6f467574)
#define CHECKED 48

size_t fut_disk_note_size(const FutDiskMap *map)
{
    return FUT_DISK_NOTE_HEAD + (map->chunks + 7) / 8;
}

/* FNV-1a: against halves of two heads, not against malice. */
static uint64_t checksum(const uint8_t *at)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (unsigned i = 0; i < CHECKED; i++) {
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

void fut_disk_note_put(uint8_t *at, const FutDiskNote *note)
{
    uint8_t head[FUT_DISK_NOTE_HEAD] = { 0 };
    fut_put_le64(head, MAGIC);
    fut_put_le64(head + 8, note->length);
    fut_put_le32(head + 16, note->shift);
    fut_put_le32(head + 20, note->disk);
    fut_put_le32(head + 24, note->role + 1);
    fut_put_le64(head + 32, note->image);
    fut_put_le64(head + 40, note->mark);
    fut_put_le64(head + CHECKED, checksum(head));
    memcpy(at, head, sizeof(head));
}

bool fut_disk_note_get(const uint8_t *at, FutDiskNote *ret)
{
    uint32_t role = fut_get_le32(at + 24);
    if (fut_get_le64(at) != MAGIC || fut_get_le64(at + CHECKED) != checksum(at) ||
        (role != FUT_ROLE_PRIMARY + 1 && role != FUT_ROLE_BACKUP + 1)) {
        return false;
    }
    *ret = (FutDiskNote){
        .length = fut_get_le64(at + 8),
        .shift = fut_get_le32(at + 16),
        .disk = fut_get_le32(at + 20),
        .role = role - 1,
        .image = fut_get_le64(at + 32),
        .mark = fut_get_le64(at + 40),
    };
    return true;
}

bool fut_disk_note_differs(const uint8_t *at, uint64_t chunk)
{
    return at[FUT_DISK_NOTE_HEAD + chunk / 8] >> (chunk % 8) & 1;
}

void fut_disk_note_set(uint8_t *at, uint64_t chunk, bool differs)
{
    uint8_t *byte = at + FUT_DISK_NOTE_HEAD + chunk / 8;
    uint8_t bit = (uint8_t)(1u << (chunk % 8));
    *byte = differs ? *byte | bit : *byte & (uint8_t)~bit;
}

void fut_disk_note_set_all(uint8_t *at, const FutDiskMap *map)
{
    memset(at + FUT_DISK_NOTE_HEAD, 0xff, fut_disk_note_size(map) - FUT_DISK_NOTE_HEAD);
}
