/* What the worker thread (worker.c) and the commands to it (engine.c) share. */
#ifndef MARSNET_WORKER_H
#define MARSNET_WORKER_H
#include "engine.h"

#define BLOCK (1u << 20) /* of a receive ring */
#define STAMP_SLACK 1000000
#define ID_EVENT UINT32_MAX
#define ID_TIMER (UINT32_MAX - 1)

typedef struct {
    pipe_t *pipe;
    wire_config_t cfg;
    int rx, tx;
    uint8_t *ring;
    uint32_t pos, shift;
    uint64_t next_id;
    int64_t offset, frozen, empty_at; /* line time = monotonic + offset; while paused: frozen */
    capture_t *capture;
    wire_stats_t st;
} dir_t;

typedef struct engine {
    dir_t *dir[MAX_DIRECTIONS];
    int64_t due[MAX_DIRECTIONS]; /* monotonic */
    uint32_t ids;
    int epoll, timer, event, notify;
    store_t store;
    engine_stats_t st;
    int64_t wall; /* CLOCK_REALTIME - CLOCK_MONOTONIC at the last reading */
    uint64_t steps;
    int stop;
    pthread_t thread;
    pthread_mutex_t callers, lock;
    pthread_cond_t answered;
    int (*command)(struct engine *, void *);
    void *argument;
    int answer;
} engine_t;

/* Line time at a reading of CLOCK_MONOTONIC. */
static inline int64_t line_time(const dir_t *d, int64_t mono) { return d->st.paused ? d->frozen : mono + d->offset; }

int64_t wall_now(void);
void *work(void *engine);
void service(engine_t *e, uint32_t id);
void fail(engine_t *e, uint32_t id);
void count_ring_drops(dir_t *d, int64_t now);
#endif
