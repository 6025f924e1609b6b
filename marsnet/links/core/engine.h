/* Moves frames of many directions between interfaces. One worker thread owns all of it; others hand it commands. */
#ifndef MARSNET_ENGINE_H
#define MARSNET_ENGINE_H
#include "pipeline.h"

#define MAX_DIRECTIONS 4096
#define LATE_BUCKETS 200

typedef struct {
    int32_t in_if, out_if;
    uint32_t slot_bytes, slots; /* of the receive ring */
    uint8_t class_of[64];       /* by DSCP */
    uint32_t class_default;
} wire_config_t;

typedef struct {
    pipe_stats_t pipe;
    uint64_t late[LATE_BUCKETS], late_frames, late_sum, late_max, early;
    uint64_t ring_drops, bad_stamps, clock_steps, unfinished_sums, capture_lost;
    int64_t now, offset, delay;
    seg_t seg;
    int32_t known, paused, gone, egress_errno, capture_errno, spare;
} wire_stats_t;

typedef struct {
    store_stats_t store;
    uint64_t wakes;
    int32_t realtime;
} engine_stats_t;

typedef struct capture {
    int fd;
    uint8_t *buf;
    size_t used;
    int64_t offset; /* from line time to the time written */
    uint64_t lost;
    _Atomic int failed;
    store_t *store;
} capture_t;

capture_t *capture_new(store_t *store, int fd, int64_t offset, const char *tx_name, const char *rx_name);
void capture_frame(capture_t *c, uint32_t side, const rec_t *r, const uint8_t *data, int64_t when, int reason);
int capture_close(capture_t *c);

struct engine;
struct engine *engine_open(int priority, uint64_t ram_bytes, const char *spill_dir, int *error);
void engine_close(struct engine *e);
int engine_event_fd(struct engine *e);
int engine_add(struct engine *e, const wire_config_t *wire, const pipe_config_t *cfg);
int engine_remove(struct engine *e, int id);
int engine_fail(struct engine *e, int id);
int engine_timeline(struct engine *e, int id, int64_t from, const seg_t *seg, size_t n, int64_t horizon);
int engine_deaf(struct engine *e, int id, int64_t from, const span_t *span, size_t n);
int engine_set_now(struct engine *e, int id, int64_t now);
int engine_pause(struct engine *e, int id, int paused);
int engine_stats(struct engine *e, const int32_t *ids, size_t n, wire_stats_t *out, engine_stats_t *all);
int engine_capture(struct engine *e, int id, int fd, int64_t offset, const char *tx_name, const char *rx_name);
int engine_capture_stop(struct engine *e, int id);
int64_t engine_now(void);
const char *reason_name(int reason);
#endif
