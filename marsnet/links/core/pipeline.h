/* Physics of one direction of a link: queues -> serializer -> propagation -> receiver. No clock, no socket. */
#ifndef MARSNET_PIPELINE_H
#define MARSNET_PIPELINE_H
#include "store.h"

enum { SEG_UP = 1, SEG_HOLD = 2, SEG_CORRUPT = 4, SEG_BURSTS = 8 };
enum reason {
    DELIVERED, QUEUE_FULL, DOWN, CUT, LOSS, BIT_ERROR, RECEIVER_DOWN, OVERSIZED,
    RAM_FULL, DISK_FULL, DISK_ERROR, EGRESS, RING, LINK_GONE, REASONS
};

/* Parameters from t0 on. delay(t) = delay + (slope * (t - ref)) / 2^62, rounded down, never below 0. */
typedef struct {
    int64_t t0, ref, delay, slope;
    uint64_t byte_time;                            /* ns per byte * 2^30; 0 is unlimited */
    uint64_t loss, ber, to_bad, to_good, bad_loss; /* probability * 2^64; all ones is certainty */
    uint64_t flags;
} seg_t;

typedef struct {
    seg_t *seg;
    size_t n, cur; /* cur: the one in force when it was last asked for */
} track_t;

typedef struct {
    uint32_t classes, weighted, max_frame, carry; /* carry: keep the frames' bytes; else: report what was dropped */
    uint64_t seed;
    uint64_t limit_bytes[MAX_CLASSES], limit_frames[MAX_CLASSES], quantum[MAX_CLASSES];
} pipe_config_t;

typedef struct {
    count_t in[MAX_CLASSES], out[MAX_CLASSES], wait[MAX_CLASSES], drop[MAX_CLASSES], fly, reason[REASONS];
    uint64_t corrupted, stalls, broken; /* broken: times the balance did not hold */
    int64_t last_tx, last_rx;
} pipe_stats_t;

/* A FIFO of numbers. */
typedef struct { int64_t *at; size_t first, count, cap; } ring_t;

typedef struct pipe {
    pipe_config_t cfg;
    store_t *store;
    fifo_t queue[MAX_CLASSES], flight, drops;
    track_t sender, receiver; /* of the receiver only SEG_UP counts */
    int64_t horizon;          /* the sender's timeline is known before this instant */
    int64_t clock, arrival, next_tx, last_deadline;
    __int128 free_at, busy_free; /* 2^-30 ns: when the serializer is free; when the frame in service will free it */
    uint64_t waiting, deficit[MAX_CLASSES], rng;
    int busy, bad;
    uint32_t busy_cls, busy_len, turn, fresh;
    int64_t busy_start, busy_end;
    seg_t busy_seg;
    /* Frames that their receiver must see at once: where they end in the octets of their class, when they arrive. */
    int quiet, deafened; /* the frame being pushed is none of them; memory ran out, so every frame counts as one */
    int64_t came[MAX_CLASSES], left[MAX_CLASSES];
    ring_t calls[MAX_CLASSES], calling;
    pipe_stats_t st;
    void (*tap)(void *ctx, uint32_t side, const rec_t *r, int64_t when, int reason);
    void *tap_ctx;
} pipe_t;

pipe_t *pipe_new(const pipe_config_t *cfg, store_t *store);
void pipe_free(pipe_t *p);
int pipe_replace(pipe_t *p, int64_t from, const seg_t *seg, size_t n, int64_t horizon);
int pipe_receiver(pipe_t *p, int64_t from, const seg_t *seg, size_t n);
void pipe_push(pipe_t *p, const void *data, uint32_t len, uint32_t cls, int64_t now, uint64_t id);
void pipe_refuse(pipe_t *p, uint32_t len, uint32_t cls, int64_t now, uint64_t id, int reason);
void pipe_advance(pipe_t *p, int64_t until);
size_t pipe_gather(pipe_t *p, int64_t now, rec_t **out, size_t max);
void pipe_release(pipe_t *p, size_t n);
size_t pipe_pop(pipe_t *p, int64_t now, rec_t *out, size_t max);
int64_t pipe_next(pipe_t *p);
int64_t pipe_next_arrival(pipe_t *p);
int64_t pipe_soonest(const pipe_t *p, int64_t from);
int pipe_balanced(pipe_t *p);
void pipe_abandon(pipe_t *p);
int pipe_at(pipe_t *p, int64_t now, seg_t *out, int64_t *delay);
void pipe_stats(pipe_t *p, pipe_stats_t *out);

/* many frames at a time, for a world on virtual time (train.c) */
void pipe_push_trains(pipe_t *p, size_t n, const uint32_t *len, const uint32_t *count, const uint8_t *cls,
                      const uint8_t *quiet, int64_t now, uint64_t id);
size_t pipe_take(pipe_t *p, int64_t now, uint64_t *runs, size_t max);
int64_t pipe_alarm(pipe_t *p);
void call_queued(pipe_t *p, uint32_t cls, uint32_t len);
void call_left(pipe_t *p, uint32_t cls, uint32_t len);
void call_flies(pipe_t *p, int64_t deadline);
void call_arrived(pipe_t *p);
void calls_free(pipe_t *p);
int64_t delay_at(const seg_t *s, int64_t t);
size_t in_force(const track_t *k, size_t from, int64_t t);
count_t waiting(const pipe_t *p, uint32_t cls);
#endif
