/* Chunked FIFOs of frame records, within one memory budget. */
#ifndef MARSNET_STORE_H
#define MARSNET_STORE_H
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define FAR INT64_MAX
#define CHUNK_BYTES (256u << 10)
#define MAX_CLASSES 8
#define SPARES 16 /* pieces of memory kept mapped while nobody needs them */

enum chunk_place { IN_RAM, WRITING, ON_DISK, READING, LOST };

typedef struct { uint64_t frames, bytes; } count_t;

typedef struct chunk {
    struct chunk *next, *job; /* next of its FIFO; next in the queue of the disk thread */
    uint8_t *data;
    uint32_t used, place;
    int64_t slot, first;        /* slot in the spill file; time of the first record */
    int keep, orphan;           /* being written, but needed in RAM after all; no longer needed */
    count_t count[MAX_CLASSES]; /* what it holds, should the disk lose it */
} chunk_t;

typedef struct {
    chunk_t *tail, *head; /* read at tail, write at head */
    chunk_t *fetch;       /* first chunk that may still be on disk */
    uint32_t at;
} fifo_t;

/* One frame. `t` is its arrival while it waits, its deadline while it flies, the moment of its end afterwards. */
typedef struct {
    int64_t t, sent; /* ns; sent: when its first bit left */
    uint64_t id;
    uint32_t len;
    uint8_t cls, reason, corrupt, quiet; /* quiet: see pipe_alarm */
} rec_t;

typedef struct {
    uint64_t ram_chunks, disk_chunks, peak_ram_chunks, written, read, write_errors, read_errors;
    int32_t last_errno, writing; /* errno of the last write if it failed; writes under way */
} store_stats_t;

typedef struct {
    pthread_mutex_t lock; /* held by whoever touches anything below, or a FIFO */
    uint64_t ram_limit;   /* chunks */
    int64_t lead;         /* ns before its first deadline at which a chunk is fetched */
    int64_t slots;
    uint8_t *spare[SPARES];
    uint32_t spares;
    int file, done, alarm;              /* spill file or -1; eventfds: a transfer has ended, it has failed */
    chunk_t *free_slots, *todo[2], *last[2]; /* of the disk thread: what to read, what to write */
    pthread_cond_t wake;
    int stop;
    store_stats_t st;
} store_t;

static inline uint32_t rec_size(uint32_t bytes) { return (uint32_t)((sizeof(rec_t) + bytes + 7) & ~7u); }

void store_init(store_t *s, uint64_t ram_bytes, int file, int done, int alarm);
void store_run(store_t *s);
void store_free(store_t *s);
rec_t *fifo_put(store_t *s, fifo_t *f, uint32_t size, int64_t t, int spill);
rec_t *fifo_peek(store_t *s, fifo_t *f);
void fifo_skip(store_t *s, fifo_t *f);
void fifo_clear(store_t *s, fifo_t *f);
int64_t fifo_due(store_t *s, fifo_t *f, int64_t now);
int64_t fifo_fetch(store_t *s, fifo_t *f, int64_t now);
#endif
