/* Moves frames of many directions between interfaces. A worker thread does it all; others call in under its lock. */
#ifndef MARSNET_ENGINE_H
#define MARSNET_ENGINE_H
#include "pipeline.h"

#define MAX_DIRECTIONS 4096
#define LATE_BUCKETS 200
#define CAPTURE_BYTES (16u << 20)
#define RING_BLOCK (1u << 20)
#define STAMP_SLACK 1000000

typedef struct {
    int32_t rx, tx;             /* packet sockets of the caller's, bound; rx with a ring of TPACKET_V2 */
    uint32_t slot_bytes, slots; /* of the ring */
    uint8_t class_of[64];       /* by DSCP */
    uint32_t class_default;
    uint8_t *ring; /* mapped by the caller */
} wire_config_t;

typedef struct {
    pipe_stats_t pipe;
    uint64_t late[LATE_BUCKETS], late_frames, late_sum, late_max, early;
    uint64_t ring_drops, bad_stamps, clock_steps, unfinished_sums, capture_lost;
    int64_t now, offset, delay;
    seg_t seg;
    int32_t known, paused, gone, egress_errno;
} wire_stats_t;

/* A pcapng stream on its way to a file, which another thread of the caller's writes. */
typedef struct {
    uint8_t *ring; /* CAPTURE_BYTES */
    uint64_t written, drained;
    uint64_t lost;
    int64_t offset; /* from line time to the time written */
    int32_t event;  /* eventfd: the ring is no longer empty */
} capture_t;

typedef struct {
    store_stats_t store;
    uint64_t wakes;
} engine_stats_t;

typedef struct {
    struct engine *engine;
    uint32_t id, pos, shift;
    pipe_t *pipe;
    wire_config_t cfg;
    uint64_t next_id;
    int64_t offset, frozen, empty_at; /* line time = monotonic + offset; while paused: frozen */
    int64_t came, deaf;               /* monotonic: the last frame was taken; nobody is woken by frames before; 0: by each */
    uint32_t taken;                   /* frames since then */
    int train;                        /* they come many at a time */
    capture_t *capture;
    wire_stats_t st;
} dir_t;

typedef struct engine {
    store_t store; /* its lock is the engine's; comes first: the disk thread runs store_run on it */
    dir_t *dir[MAX_DIRECTIONS];
    int64_t due[MAX_DIRECTIONS]; /* monotonic */
    uint32_t ids;
    int epoll, timer, event, alarm, stop;
    uint64_t wakes, steps;
    int64_t armed; /* what the timer is set to; FAR: it is not */
    int64_t wall; /* CLOCK_REALTIME - CLOCK_MONOTONIC at the last reading */
} engine_t;

/* Line time at a reading of CLOCK_MONOTONIC. */
static inline int64_t line_time(const dir_t *d, int64_t mono) { return d->st.paused ? d->frozen : mono + d->offset; }

/* wire.c, for the worker */
int64_t engine_now(void);
void read_wall(engine_t *e);
void service(dir_t *d);
int listen_to(dir_t *d, uint32_t events);
void count_ring_drops(dir_t *d);
void capture_frame(void *capture, uint32_t side, const rec_t *r, int64_t when, int reason);

/* engine.c. `alarm` is an eventfd that tells the caller of an interface or a disk that fails. */
engine_t *engine_new(uint64_t ram_bytes, int spill_file, int alarm);
void engine_run(engine_t *e);
void engine_stop(engine_t *e);
void engine_free(engine_t *e);
void engine_stats(engine_t *e, engine_stats_t *out);
dir_t *dir_add(engine_t *e, const wire_config_t *wire, const pipe_config_t *cfg);
void dir_remove(dir_t *d);
void dir_fail(dir_t *d);
int dir_timeline(dir_t *d, int64_t from, const seg_t *seg, size_t n, int64_t horizon);
int dir_receiver(dir_t *d, int64_t from, const seg_t *seg, size_t n);
void dir_clock(dir_t *d, int64_t now, int paused);
void dir_stats(dir_t *d, wire_stats_t *out);
void dir_capture(dir_t *d, capture_t *capture);
uint64_t capture_drained(capture_t *c, uint64_t drained);
#endif
