/* The worker thread, and what other threads may ask of it. */
#define _GNU_SOURCE
#include "engine.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { ID_EVENT = MAX_DIRECTIONS, ID_TIMER };

static int watch(engine_t *e, int fd, uint32_t id)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = id};
    return epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &ev);
}

/* NULL and errno when the system has no more of what it takes. */
engine_t *engine_new(uint64_t ram_bytes, int spill_file, int alarm)
{
    engine_t *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    e->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    e->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->alarm = alarm;
    e->armed = FAR;
    store_init(&e->store, ram_bytes, spill_file, e->event, alarm);
    read_wall(e);
    e->steps = 0;
    if (!watch(e, e->event, ID_EVENT) && !watch(e, e->timer, ID_TIMER))
        return e;
    int error = errno;
    engine_free(e);
    errno = error;
    return NULL;
}

/* Once both threads have ended and every direction is removed. */
void engine_free(engine_t *e)
{
    store_free(&e->store);
    close(e->epoll);
    close(e->timer);
    close(e->event);
    free(e);
}

/* What the worker is woken for by the receive ring; returns whether it is so. */
int listen_to(dir_t *d, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.u32 = d->id};
    return !epoll_ctl(d->engine->epoll, EPOLL_CTL_MOD, d->cfg.rx, &ev);
}

static void on_event(engine_t *e, uint32_t id, uint32_t events)
{
    uint64_t count;
    int error;
    socklen_t size = sizeof error;
    if (id == ID_TIMER) {
        if (read(e->timer, &count, sizeof count) < 0)
            return;
        e->armed = FAR;
    } else if (id == ID_EVENT) {
        eventfd_read(e->event, &count);
        for (uint32_t i = 0; i < e->ids; i++) /* one of them may have waited for the disk */
            if (e->dir[i] && e->dir[i]->pipe->flight.fetch)
                e->due[i] = 0;
    } else if (e->dir[id]) {
        e->due[id] = 0;
        if (events & EPOLLERR) { /* it may have vanished: the caller knows */
            getsockopt(e->dir[id]->cfg.rx, SOL_SOCKET, SO_ERROR, &error, &size);
            eventfd_write(e->alarm, 1);
        }
    }
}

/* The worker thread. It keeps the lock except while it sleeps. */
void engine_run(engine_t *e)
{
    struct epoll_event ev[64];
    prctl(PR_SET_TIMERSLACK, 1);
    pthread_mutex_lock(&e->store.lock);
    while (!e->stop) {
        int64_t now = engine_now(), next = FAR;
        for (uint32_t i = 0; i < e->ids; i++) {
            if (e->due[i] <= now)
                service(e->dir[i]);
            if (e->due[i] < next)
                next = e->due[i];
        }
        int sleep = next > engine_now();
        struct itimerspec t = {.it_value = {next / 1000000000, next % 1000000000}};
        if (sleep && next != e->armed) {
            timerfd_settime(e->timer, TFD_TIMER_ABSTIME, next == FAR ? &(struct itimerspec){0} : &t, NULL);
            e->armed = next;
        }
        e->wakes += (uint64_t)sleep;
        pthread_mutex_unlock(&e->store.lock);
        int n = epoll_wait(e->epoll, ev, 64, sleep ? -1 : 0);
        pthread_mutex_lock(&e->store.lock);
        for (int i = 0; i < n; i++)
            on_event(e, ev[i].data.u32, ev[i].events);
    }
    pthread_mutex_unlock(&e->store.lock);
}

static void enter(engine_t *e) { pthread_mutex_lock(&e->store.lock); }

static void leave(engine_t *e)
{
    pthread_mutex_unlock(&e->store.lock);
    eventfd_write(e->event, 1);
}

/* Both threads end. */
void engine_stop(engine_t *e)
{
    enter(e);
    e->stop = e->store.stop = 1;
    pthread_cond_signal(&e->store.wake);
    leave(e);
}

void engine_stats(engine_t *e, engine_stats_t *out)
{
    enter(e);
    *out = (engine_stats_t){e->store.st, e->wakes};
    pthread_mutex_unlock(&e->store.lock);
}

/* A direction from one socket to another; NULL when there is no room for it. */
dir_t *dir_add(engine_t *e, const wire_config_t *wire, const pipe_config_t *cfg)
{
    dir_t *d = calloc(1, sizeof *d);
    pipe_t *p = d ? pipe_new(cfg, &e->store) : NULL;
    if (!p)
        return free(d), NULL;
    *d = (dir_t){.engine = e, .cfg = *wire, .shift = (uint32_t)__builtin_ctz(wire->slot_bytes), .pipe = p};
    enter(e);
    while (d->id < e->ids && e->dir[d->id])
        d->id++;
    if (d->id < MAX_DIRECTIONS && !watch(e, wire->rx, d->id)) {
        e->dir[d->id] = d;
        e->due[d->id] = 0;
        e->ids += d->id == e->ids;
    } else {
        pipe_free(p);
        free(d);
        d = NULL;
    }
    leave(e);
    return d;
}

void dir_remove(dir_t *d)
{
    engine_t *e = d->engine;
    enter(e);
    epoll_ctl(e->epoll, EPOLL_CTL_DEL, d->cfg.rx, NULL);
    e->dir[d->id] = NULL;
    e->due[d->id] = FAR;
    pipe_free(d->pipe);
    leave(e);
    free(d);
}

/* One of its interfaces has gone. */
void dir_fail(dir_t *d)
{
    enter(d->engine);
    if (!d->st.gone) {
        epoll_ctl(d->engine->epoll, EPOLL_CTL_DEL, d->cfg.rx, NULL);
        d->st.gone = 1;
        pipe_abandon(d->pipe);
    }
    leave(d->engine);
}

/* What comes until now obeys what holds until now. */
static void settle(dir_t *d)
{
    enter(d->engine);
    service(d);
    d->engine->due[d->id] = 0;
}

/* Replace the timeline from an instant of line time on. Returns nonzero when there is no memory. */
int dir_timeline(dir_t *d, int64_t from, const seg_t *seg, size_t n, int64_t horizon)
{
    settle(d);
    int failed = pipe_replace(d->pipe, from, seg, n, horizon);
    leave(d->engine);
    return failed;
}

int dir_receiver(dir_t *d, int64_t from, const seg_t *seg, size_t n)
{
    enter(d->engine);
    int failed = pipe_receiver(d->pipe, from, seg, n);
    leave(d->engine);
    return failed;
}

/* Let line time be `now` from here on, or what it is (FAR). While paused it stands still; nothing in flight moves. */
void dir_clock(dir_t *d, int64_t now, int paused)
{
    settle(d);
    int64_t mono = engine_now();
    d->frozen = now == FAR ? line_time(d, mono) : now;
    d->offset = d->frozen - mono;
    d->st.paused = paused;
    leave(d->engine);
}

void dir_stats(dir_t *d, wire_stats_t *out)
{
    settle(d);
    if (!d->st.gone)
        count_ring_drops(d);
    *out = d->st;
    pipe_stats(d->pipe, &out->pipe);
    out->clock_steps = d->engine->steps;
    out->now = line_time(d, engine_now());
    out->offset = d->offset;
    out->known = pipe_at(d->pipe, out->now, &out->seg, &out->delay);
    out->capture_lost = d->capture ? d->capture->lost : 0;
    leave(d->engine);
}

/* From here on frames are written to `capture`; NULL ends that. */
void dir_capture(dir_t *d, capture_t *capture)
{
    settle(d);
    d->capture = d->pipe->tap_ctx = capture;
    d->pipe->tap = capture ? capture_frame : NULL;
    leave(d->engine);
}
