#define _GNU_SOURCE
#include "worker.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Let the worker run `fn`; returns its answer. */
static int call(engine_t *e, int (*fn)(engine_t *, void *), void *arg)
{
    pthread_mutex_lock(&e->callers);
    pthread_mutex_lock(&e->lock);
    e->command = fn;
    e->argument = arg;
    eventfd_write(e->event, 1);
    while (e->command)
        pthread_cond_wait(&e->answered, &e->lock);
    int answer = e->answer;
    pthread_mutex_unlock(&e->lock);
    pthread_mutex_unlock(&e->callers);
    return answer;
}

/* priority: of SCHED_FIFO, 0 for none; st.realtime says whether it was granted. */
engine_t *engine_open(int priority, uint64_t ram_bytes, const char *spill_dir, int *error)
{
    engine_t *e = calloc(1, sizeof *e);
    if (!e) {
        *error = ENOMEM;
        return NULL;
    }
    store_init(&e->store, ram_bytes);
    pthread_mutex_init(&e->lock, NULL);
    pthread_mutex_init(&e->callers, NULL);
    pthread_cond_init(&e->answered, NULL);
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    e->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    e->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->notify = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->wall = wall_now() - engine_now();
    struct epoll_event on_command = {.events = EPOLLIN, .data.u32 = ID_EVENT}, on_time = {.events = EPOLLIN, .data.u32 = ID_TIMER};
    *error = epoll_ctl(e->epoll, EPOLL_CTL_ADD, e->event, &on_command) || epoll_ctl(e->epoll, EPOLL_CTL_ADD, e->timer, &on_time)
                 ? errno
                 : -store_start(&e->store, spill_dir, e->event);
    if (!*error)
        *error = pthread_create(&e->thread, NULL, work, e);
    if (*error) {
        store_free(&e->store);
        close(e->epoll), close(e->timer), close(e->event), close(e->notify);
        free(e);
        return NULL;
    }
    struct sched_param sp = {.sched_priority = priority};
    e->st.realtime = priority > 0 && !pthread_setschedparam(e->thread, SCHED_FIFO, &sp);
    return e;
}

static int open_receiver(dir_t *d)
{
    int version = TPACKET_V2, one = 1;
    uint32_t per_block = BLOCK / d->cfg.slot_bytes;
    struct tpacket_req ring = {BLOCK, d->cfg.slots / per_block, d->cfg.slot_bytes, d->cfg.slots};
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = d->cfg.in_if};
    struct packet_mreq all = {.mr_ifindex = d->cfg.in_if, .mr_type = PACKET_MR_PROMISC};
    d->rx = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (d->rx < 0 || setsockopt(d->rx, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
        setsockopt(d->rx, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) ||
        setsockopt(d->rx, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring))
        return -errno;
    d->ring = mmap(NULL, (size_t)d->cfg.slots << d->shift, PROT_READ | PROT_WRITE, MAP_SHARED, d->rx, 0);
    if (d->ring == MAP_FAILED)
        return d->ring = NULL, -errno;
    if (bind(d->rx, (struct sockaddr *)&at, sizeof at) || setsockopt(d->rx, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all))
        return -errno;
    return 0;
}

static int open_sender(dir_t *d)
{
    int one = 1, room = 8 << 20;
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = d->cfg.out_if};
    d->tx = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (d->tx < 0 || setsockopt(d->tx, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one))
        return -errno;
    if (setsockopt(d->tx, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room))
        setsockopt(d->tx, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    return bind(d->tx, (struct sockaddr *)&at, sizeof at) ? -errno : 0;
}

static void dir_close(dir_t *d)
{
    if (d->ring)
        munmap(d->ring, (size_t)d->cfg.slots << d->shift);
    if (d->rx >= 0)
        close(d->rx);
    if (d->tx >= 0)
        close(d->tx);
    free(d);
}

static int do_add(engine_t *e, void *arg)
{
    dir_t *d = arg;
    uint32_t id = 0;
    while (id < e->ids && e->dir[id])
        id++;
    if (id == MAX_DIRECTIONS)
        return -ENOSPC;
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = id};
    if (epoll_ctl(e->epoll, EPOLL_CTL_ADD, d->rx, &ev))
        return -errno;
    e->dir[id] = d;
    e->due[id] = 0;
    e->ids = id == e->ids ? id + 1 : e->ids;
    return (int)id;
}

/* A direction from one interface to another. Returns its id or -errno. */
int engine_add(engine_t *e, const wire_config_t *wire, const pipe_config_t *cfg)
{
    dir_t *d = calloc(1, sizeof *d);
    if (!d)
        return -ENOMEM;
    d->cfg = *wire;
    d->shift = (uint32_t)__builtin_ctz(wire->slot_bytes);
    d->rx = d->tx = -1;
    int answer = open_receiver(d);
    if (!answer)
        answer = open_sender(d);
    if (!answer && !(d->pipe = pipe_new(cfg, &e->store)))
        answer = -ENOMEM;
    if (!answer && (answer = call(e, do_add, d)) >= 0)
        return answer;
    if (d->pipe)
        pipe_free(d->pipe);
    dir_close(d);
    return answer;
}

typedef struct request {
    int id;
    int (*fn)(engine_t *, dir_t *, struct request *);
    int64_t time, horizon;
    const void *list;
    const int32_t *ids;
    size_t n;
    wire_stats_t *out;
    engine_stats_t *all;
    capture_t *capture;
    dir_t *removed;
} request_t;

static dir_t *known(engine_t *e, int id) { return id >= 0 && (uint32_t)id < e->ids ? e->dir[id] : NULL; }

static int on_direction(engine_t *e, void *arg)
{
    request_t *q = arg;
    dir_t *d = known(e, q->id);
    return d ? q->fn(e, d, q) : -ENOENT;
}

static int do_remove(engine_t *e, dir_t *d, request_t *q)
{
    epoll_ctl(e->epoll, EPOLL_CTL_DEL, d->rx, NULL);
    pipe_free(d->pipe);
    q->removed = d;
    e->dir[q->id] = NULL;
    e->due[q->id] = FAR;
    return 0;
}

int engine_remove(engine_t *e, int id)
{
    request_t q = {.id = id, .fn = do_remove};
    int answer = call(e, on_direction, &q);
    if (answer)
        return answer;
    if (q.removed->capture)
        capture_close(q.removed->capture);
    dir_close(q.removed);
    return 0;
}

static int do_fail(engine_t *e, dir_t *d, request_t *q)
{
    if (!d->st.gone)
        fail(e, (uint32_t)q->id);
    return 0;
}

int engine_fail(engine_t *e, int id)
{
    request_t q = {.id = id, .fn = do_fail};
    return call(e, on_direction, &q);
}

static int do_timeline(engine_t *e, dir_t *d, request_t *q)
{
    service(e, (uint32_t)q->id);
    int answer = pipe_replace(d->pipe, q->time, q->list, q->n, q->horizon) ? -ENOMEM : 0;
    e->due[q->id] = 0;
    return answer;
}

/* Replace the timeline from an instant of line time on. */
int engine_timeline(engine_t *e, int id, int64_t from, const seg_t *seg, size_t n, int64_t horizon)
{
    request_t q = {.id = id, .fn = do_timeline, .time = from, .list = seg, .n = n, .horizon = horizon};
    return call(e, on_direction, &q);
}

static int do_deaf(engine_t *e, dir_t *d, request_t *q)
{
    (void)e;
    return pipe_deaf(d->pipe, q->time, q->list, q->n) ? -ENOMEM : 0;
}

int engine_deaf(engine_t *e, int id, int64_t from, const span_t *span, size_t n)
{
    request_t q = {.id = id, .fn = do_deaf, .time = from, .list = span, .n = n};
    return call(e, on_direction, &q);
}

static int do_set_now(engine_t *e, dir_t *d, request_t *q)
{
    service(e, (uint32_t)q->id);
    d->offset = q->time - engine_now();
    d->frozen = q->time;
    d->empty_at = INT64_MIN + STAMP_SLACK;
    e->due[q->id] = 0;
    return 0;
}

/* Let line time be `now` from here on. */
int engine_set_now(engine_t *e, int id, int64_t now)
{
    request_t q = {.id = id, .fn = do_set_now, .time = now};
    return call(e, on_direction, &q);
}

static int do_pause(engine_t *e, dir_t *d, request_t *q)
{
    service(e, (uint32_t)q->id);
    if (q->n && !d->st.paused)
        d->frozen = line_time(d, engine_now());
    if (!q->n && d->st.paused)
        d->offset = d->frozen - engine_now();
    d->st.paused = (int32_t)q->n;
    e->due[q->id] = 0;
    return 0;
}

/* While paused, line time stands still; nothing in flight moves. */
int engine_pause(engine_t *e, int id, int paused)
{
    request_t q = {.id = id, .fn = do_pause, .n = paused != 0};
    return call(e, on_direction, &q);
}

static int do_stats(engine_t *e, void *arg)
{
    request_t *q = arg;
    for (size_t i = 0; i < q->n; i++) {
        dir_t *d = known(e, q->ids[i]);
        if (!d)
            return -ENOENT;
        int64_t mono = engine_now();
        if (!d->st.gone)
            count_ring_drops(d, line_time(d, mono));
        wire_stats_t *o = &q->out[i];
        *o = d->st;
        pipe_stats(d->pipe, &o->pipe);
        o->clock_steps = e->steps;
        o->now = line_time(d, mono);
        o->offset = d->offset;
        o->known = pipe_at(d->pipe, o->now, &o->seg, &o->delay);
        o->capture_errno = d->capture ? atomic_load(&d->capture->failed) : 0;
        o->capture_lost = d->capture ? d->capture->lost : 0;
    }
    *q->all = e->st;
    q->all->store = e->store.st;
    return 0;
}

int engine_stats(engine_t *e, const int32_t *ids, size_t n, wire_stats_t *out, engine_stats_t *all)
{
    request_t q = {.ids = ids, .n = n, .out = out, .all = all};
    return call(e, do_stats, &q);
}

static void tap(void *ctx, const rec_t *r, const uint8_t *data, int64_t when, int reason) { capture_frame(ctx, 0, r, data, when, reason); }

static int do_capture(engine_t *e, dir_t *d, request_t *q)
{
    (void)e;
    if (q->capture && d->capture)
        return -EBUSY;
    capture_t *before = d->capture;
    d->capture = d->pipe->tap_ctx = q->capture;
    d->pipe->tap = q->capture ? tap : NULL;
    q->capture = before;
    return 0;
}

/* Write frames to `fd` as pcapng; takes the descriptor. */
int engine_capture(engine_t *e, int id, int fd, int64_t offset, const char *tx_name, const char *rx_name)
{
    request_t q = {.id = id, .fn = do_capture, .capture = capture_new(&e->store, fd, offset, tx_name, rx_name)};
    if (!q.capture)
        return -ENOMEM;
    int answer = call(e, on_direction, &q);
    if (answer)
        capture_close(q.capture);
    return answer;
}

/* Returns 0 or -errno of the first write that failed. */
int engine_capture_stop(engine_t *e, int id)
{
    request_t q = {.id = id, .fn = do_capture};
    int answer = call(e, on_direction, &q);
    if (answer || !q.capture)
        return answer ? answer : -ENODATA;
    return -capture_close(q.capture);
}

int engine_event_fd(engine_t *e) { return e->notify; }

static int do_stop(engine_t *e, void *arg)
{
    (void)arg;
    return e->stop = 1;
}

void engine_close(engine_t *e)
{
    for (int i = 0; i < MAX_DIRECTIONS; i++)
        if (e->dir[i]) /* only this thread adds and removes */
            engine_remove(e, i);
    call(e, do_stop, NULL);
    pthread_join(e->thread, NULL);
    store_free(&e->store);
    close(e->epoll), close(e->timer), close(e->event), close(e->notify);
    pthread_mutex_destroy(&e->lock);
    pthread_mutex_destroy(&e->callers);
    pthread_cond_destroy(&e->answered);
    free(e);
}
