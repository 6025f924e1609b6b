#define _GNU_SOURCE
#include "engine.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (1u << 20)
#define RX_BATCH 256
#define TX_BATCH 64
#define TX_TURN 512 /* frames that one direction may send before the others get their turn */
#define STAMP_SLACK 1000000
#define STEP_LIMIT 200000 /* ns by which wall clock and monotonic clock may part between two readings */
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

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int64_t engine_now(void) { return clock_ns(CLOCK_MONOTONIC); }

const char *reason_name(int reason)
{
    static const char *names[REASONS] = {"delivered",     "queue_full", "down",      "cut",        "loss",   "bit_error", "receiver_down",
                                         "oversized",     "ram_full",   "disk_full", "disk_error", "egress", "ring",      "link_gone"};
    return reason >= 0 && reason < REASONS ? names[reason] : "";
}

static int64_t line_time(const dir_t *d, int64_t mono) { return d->st.paused ? d->frozen : mono + d->offset; }

static void notify(engine_t *e) { eventfd_write(e->notify, 1); }

/* Wall minus monotonic; a reading that was interrupted is taken again. */
static void read_wall(engine_t *e)
{
    int64_t best = FAR, wall = e->wall;
    for (int i = 0; i < 4 && best > 500; i++) {
        int64_t before = engine_now(), real = clock_ns(CLOCK_REALTIME), after = engine_now();
        if (after - before < best) {
            best = after - before;
            wall = real - before - best / 2;
        }
    }
    if (llabs(wall - e->wall) > STEP_LIMIT)
        e->steps++;
    e->wall = wall;
}

static uint32_t class_of(const dir_t *d, const uint8_t *f, uint32_t len)
{
    uint32_t at = 12;
    for (int tags = 0; tags < 2 && len >= at + 6; tags++, at += 4) {
        uint32_t type = (uint32_t)f[at] << 8 | f[at + 1];
        if (type != ETH_P_8021Q && type != ETH_P_8021AD)
            break;
    }
    if (len < at + 4)
        return d->cfg.class_default;
    uint32_t type = (uint32_t)f[at] << 8 | f[at + 1];
    if (type == ETH_P_IP)
        return d->cfg.class_of[f[at + 3] >> 2];
    if (type == ETH_P_IPV6)
        return d->cfg.class_of[((f[at + 2] & 15u) << 4 | f[at + 3] >> 4) >> 2];
    return d->cfg.class_default;
}

static void count_ring_drops(dir_t *d, int64_t now)
{
    struct tpacket_stats s;
    socklen_t n = sizeof s;
    if (getsockopt(d->rx, SOL_PACKET, PACKET_STATISTICS, &s, &n))
        return;
    d->st.ring_drops += s.tp_drops;
    while (s.tp_drops--)
        pipe_refuse(d->pipe, 0, d->cfg.class_default, now, 0, RING);
}

static void accept_frame(engine_t *e, dir_t *d, struct tpacket2_hdr *h, uint32_t status, int64_t *mono)
{
    uint8_t tagged[ETH_HLEN + 10240], *f = (uint8_t *)h + h->tp_mac;
    uint32_t len = h->tp_len;
    int64_t stamp = h->tp_sec * 1000000000ll + h->tp_nsec - e->wall;
    if (stamp > *mono)
        *mono = engine_now();
    if (stamp > *mono || stamp < d->empty_at - STAMP_SLACK) {
        d->st.bad_stamps += stamp > *mono + STAMP_SLACK || stamp < d->empty_at - STAMP_SLACK;
        stamp = *mono;
    }
    int64_t now = line_time(d, stamp);
    if (status & TP_STATUS_CSUMNOTREADY)
        d->st.unfinished_sums++;
    if (h->tp_snaplen < h->tp_len || (len + 4 > sizeof tagged)) {
        pipe_refuse(d->pipe, len, d->cfg.class_default, now, 0, OVERSIZED);
        return;
    }
    if (status & TP_STATUS_VLAN_VALID && len >= 12) {
        uint16_t tag[2] = {htons(status & TP_STATUS_VLAN_TPID_VALID ? h->tp_vlan_tpid : ETH_P_8021Q), htons(h->tp_vlan_tci)};
        memcpy(tagged, f, 12);
        memcpy(tagged + 12, tag, 4);
        memcpy(tagged + 16, f + 12, len - 12);
        f = tagged;
        len += 4;
    }
    pipe_push(d->pipe, f, len, class_of(d, f, len), now, ++d->next_id);
}

/* Take frames from the receive ring; returns whether it is empty now. */
static int drain(engine_t *e, dir_t *d)
{
    uint32_t per_block = BLOCK >> d->shift;
    int64_t mono = engine_now();
    for (int n = 0; n < RX_BATCH; n++) {
        struct tpacket2_hdr *h = (void *)(d->ring + (size_t)(d->pos / per_block) * BLOCK + ((size_t)(d->pos % per_block) << d->shift));
        uint32_t status = __atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE);
        if (!(status & TP_STATUS_USER)) {
            if (!n)
                d->empty_at = mono;
            return 1;
        }
        if (!n)
            read_wall(e);
        if (status & TP_STATUS_LOSING)
            count_ring_drops(d, line_time(d, mono));
        accept_frame(e, d, h, status, &mono);
        __atomic_store_n(&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        d->pos = d->pos + 1 == d->cfg.slots ? 0 : d->pos + 1;
    }
    return 0;
}

/* Buckets: below 1024 ns, then eight per octave. */
static void note_lateness(wire_stats_t *s, int64_t late)
{
    if (late < 0) {
        s->early++;
        late = 0;
    }
    int octave = late < 1024 ? 0 : 63 - __builtin_clzll((uint64_t)late);
    int bucket = octave ? (octave - 10) * 8 + (int)(late >> (octave - 3) & 7) + 1 : 0;
    s->late[bucket < LATE_BUCKETS ? bucket : LATE_BUCKETS - 1]++;
    s->late_frames++;
    s->late_sum += (uint64_t)late;
    if ((uint64_t)late > s->late_max)
        s->late_max = (uint64_t)late;
}

static int vanished(const dir_t *d)
{
    struct ifreq a = {.ifr_ifindex = d->cfg.in_if}, b = {.ifr_ifindex = d->cfg.out_if};
    return ioctl(d->rx, SIOCGIFNAME, &a) || ioctl(d->rx, SIOCGIFNAME, &b);
}

static void fail(engine_t *e, uint32_t id)
{
    dir_t *d = e->dir[id];
    d->st.gone = 1;
    e->due[id] = FAR;
    epoll_ctl(e->epoll, EPOLL_CTL_DEL, d->rx, NULL);
    pipe_abandon(d->pipe, line_time(d, engine_now()));
    notify(e);
}

static void send_batch(engine_t *e, uint32_t id, rec_t **due, size_t n)
{
    dir_t *d = e->dir[id];
    struct mmsghdr msg[TX_BATCH];
    struct iovec io[TX_BATCH];
    rec_t *rec[TX_BATCH];
    unsigned k = 0, sent = 0;
    int lost_interface = 0;
    memset(msg, 0, sizeof msg);
    for (size_t i = 0; i < n; i++) {
        if (d->capture)
            capture_frame(d->capture, 1, due[i], (uint8_t *)(due[i] + 1), due[i]->t, due[i]->reason);
        if (due[i]->reason != DELIVERED)
            continue;
        rec[k] = due[i];
        io[k] = (struct iovec){due[i] + 1, due[i]->len};
        msg[k].msg_hdr.msg_iov = &io[k];
        msg[k++].msg_hdr.msg_iovlen = 1;
    }
    int64_t now = line_time(d, engine_now());
    while (sent < k) {
        int r = sendmmsg(d->tx, msg + sent, k - sent, 0);
        if (r >= 0) {
            sent += (unsigned)r;
        } else if (errno != EINTR) {
            d->st.egress_errno = errno;
            lost_interface |= errno == ENXIO || errno == ENODEV;
            rec[sent++]->reason = EGRESS;
        }
    }
    for (unsigned i = 0; i < k; i++)
        if (rec[i]->reason == DELIVERED)
            note_lateness(&d->st, now - rec[i]->t);
    pipe_release(d->pipe, n);
    if (lost_interface && vanished(d))
        fail(e, id);
}

static void service(engine_t *e, uint32_t id)
{
    dir_t *d = e->dir[id];
    if (d->st.gone)
        return;
    pipe_t *p = d->pipe;
    int64_t now = line_time(d, engine_now());
    int empty = drain(e, d);
    pipe_advance(p, empty || p->arrival > now ? now : p->arrival);
    rec_t *due[TX_BATCH];
    size_t turn = 0, n;
    while (turn < TX_TURN && !d->st.gone && (n = pipe_gather(p, now, due, TX_BATCH))) {
        send_batch(e, id, due, n);
        turn += n;
    }
    if (d->st.gone)
        return;
    pipe_balanced(p);
    int64_t fetch = fifo_fetch(&e->store, &p->flight, now), next = pipe_next(p);
    if (fetch < next)
        next = fetch;
    e->due[id] = !empty ? 0 : next == FAR || d->st.paused ? FAR : next - d->offset;
}

static void run_command(engine_t *e)
{
    pthread_mutex_lock(&e->lock);
    if (e->command) {
        e->answer = e->command(e, e->argument);
        e->command = NULL;
        e->st.commands++;
        pthread_cond_broadcast(&e->answered);
    }
    pthread_mutex_unlock(&e->lock);
}

static void on_event(engine_t *e, const struct epoll_event *ev)
{
    uint32_t id = ev->data.u32;
    uint64_t count;
    if (id == ID_TIMER) {
        if (read(e->timer, &count, sizeof count) < 0)
            return;
    } else if (id == ID_EVENT) {
        eventfd_read(e->event, &count);
        if (store_collect(&e->store))
            notify(e);
        for (uint32_t i = 0; i < e->ids; i++) /* one of them may have waited for the disk */
            if (e->dir[i] && e->dir[i]->pipe->flight.fetch)
                e->due[i] = 0;
        run_command(e);
    } else if (id < e->ids && e->dir[id]) {
        int error = 0;
        socklen_t n = sizeof error;
        if (ev->events & (EPOLLERR | EPOLLHUP)) {
            getsockopt(e->dir[id]->rx, SOL_SOCKET, SO_ERROR, &error, &n);
            if (vanished(e->dir[id])) {
                fail(e, id);
                return;
            }
        }
        e->due[id] = 0;
    }
}

static void *work(void *arg)
{
    engine_t *e = arg;
    struct epoll_event ev[64];
    int64_t armed = FAR;
    prctl(PR_SET_TIMERSLACK, 1);
    prctl(PR_SET_NAME, "marsnet-links");
    while (!e->stop) {
        int64_t now = engine_now(), next = FAR;
        for (uint32_t i = 0; i < e->ids; i++) {
            if (e->due[i] <= now)
                service(e, i);
            if (e->due[i] < next)
                next = e->due[i];
        }
        int wait = next == FAR || next > engine_now() ? -1 : 0;
        if (wait && next != armed) {
            struct itimerspec t = {.it_value = {next / 1000000000, next % 1000000000}};
            if (next == FAR)
                t.it_value = (struct timespec){0, 0};
            timerfd_settime(e->timer, TFD_TIMER_ABSTIME, &t, NULL);
            armed = next;
        }
        int n = epoll_wait(e->epoll, ev, 64, wait);
        e->st.wakes += wait != 0;
        for (int i = 0; i < n; i++) {
            if (ev[i].data.u32 == ID_TIMER)
                armed = FAR;
            on_event(e, &ev[i]);
        }
    }
    return NULL;
}

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
    e->wall = clock_ns(CLOCK_REALTIME) - engine_now();
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
    e->st.directions++;
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

typedef struct {
    int id;
    dir_t *dir;
    int64_t time, horizon;
    const void *list;
    const int32_t *ids;
    size_t n;
    wire_stats_t *out;
    engine_stats_t *all;
    capture_t *capture;
} request_t;

static dir_t *known(engine_t *e, int id) { return id >= 0 && (uint32_t)id < e->ids ? e->dir[id] : NULL; }

static int do_remove(engine_t *e, void *arg)
{
    request_t *q = arg;
    if (!(q->dir = known(e, q->id)))
        return -ENOENT;
    epoll_ctl(e->epoll, EPOLL_CTL_DEL, q->dir->rx, NULL);
    pipe_free(q->dir->pipe);
    e->dir[q->id] = NULL;
    e->due[q->id] = FAR;
    e->st.directions--;
    return 0;
}

int engine_remove(engine_t *e, int id)
{
    request_t q = {.id = id};
    int answer = call(e, do_remove, &q);
    if (answer)
        return answer;
    if (q.dir->capture)
        capture_close(q.dir->capture);
    dir_close(q.dir);
    return 0;
}

static int do_fail(engine_t *e, void *arg)
{
    request_t *q = arg;
    if (!(q->dir = known(e, q->id)))
        return -ENOENT;
    if (!q->dir->st.gone)
        fail(e, (uint32_t)q->id);
    return 0;
}

int engine_fail(engine_t *e, int id)
{
    request_t q = {.id = id};
    return call(e, do_fail, &q);
}

static int do_timeline(engine_t *e, void *arg)
{
    request_t *q = arg;
    if (!(q->dir = known(e, q->id)))
        return -ENOENT;
    service(e, (uint32_t)q->id);
    int answer = pipe_replace(q->dir->pipe, q->time, q->list, q->n, q->horizon) ? -ENOMEM : 0;
    if (!q->dir->st.gone)
        e->due[q->id] = 0;
    return answer;
}

/* Replace the timeline from an instant of line time on. */
int engine_timeline(engine_t *e, int id, int64_t from, const seg_t *seg, size_t n, int64_t horizon)
{
    request_t q = {.id = id, .time = from, .list = seg, .n = n, .horizon = horizon};
    return call(e, do_timeline, &q);
}

static int do_deaf(engine_t *e, void *arg)
{
    request_t *q = arg;
    if (!(q->dir = known(e, q->id)))
        return -ENOENT;
    return pipe_deaf(q->dir->pipe, q->time, q->list, q->n) ? -ENOMEM : 0;
}

int engine_deaf(engine_t *e, int id, int64_t from, const span_t *span, size_t n)
{
    request_t q = {.id = id, .time = from, .list = span, .n = n};
    return call(e, do_deaf, &q);
}

static int do_set_now(engine_t *e, void *arg)
{
    request_t *q = arg;
    if (!(q->dir = known(e, q->id)))
        return -ENOENT;
    service(e, (uint32_t)q->id);
    q->dir->offset = q->time - engine_now();
    q->dir->frozen = q->time;
    q->dir->empty_at = INT64_MIN + STAMP_SLACK;
    e->due[q->id] = 0;
    return 0;
}

/* Let line time be `now` from here on. */
int engine_set_now(engine_t *e, int id, int64_t now)
{
    request_t q = {.id = id, .time = now};
    return call(e, do_set_now, &q);
}

static int do_pause(engine_t *e, void *arg)
{
    request_t *q = arg;
    if (!(q->dir = known(e, q->id)))
        return -ENOENT;
    dir_t *d = q->dir;
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
    request_t q = {.id = id, .n = paused != 0};
    return call(e, do_pause, &q);
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

static int do_capture(engine_t *e, void *arg)
{
    request_t *q = arg;
    if (!(q->dir = known(e, q->id)))
        return -ENOENT;
    dir_t *d = q->dir;
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
    request_t q = {.id = id, .capture = capture_new(&e->store, fd, offset, tx_name, rx_name)};
    if (!q.capture)
        return -ENOMEM;
    int answer = call(e, do_capture, &q);
    if (answer)
        capture_close(q.capture);
    return answer;
}

/* Returns 0 or -errno of the first write that failed. */
int engine_capture_stop(engine_t *e, int id)
{
    request_t q = {.id = id};
    int answer = call(e, do_capture, &q);
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
