#define _GNU_SOURCE
#include "worker.h"
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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define RX_BATCH 256
#define TX_BATCH 64
#define TX_TURN 512 /* frames that one direction may send before the others get their turn */
#define STEP_LIMIT 200000 /* ns by which wall clock and monotonic clock may part between two readings */

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int64_t engine_now(void) { return clock_ns(CLOCK_MONOTONIC); }

int64_t wall_now(void) { return clock_ns(CLOCK_REALTIME); }

const char *reason_name(int reason)
{
    static const char *names[REASONS] = {"delivered",     "queue_full", "down",      "cut",        "loss",   "bit_error", "receiver_down",
                                         "oversized",     "ram_full",   "disk_full", "disk_error", "egress", "ring",      "link_gone"};
    return reason >= 0 && reason < REASONS ? names[reason] : "";
}

static void notify(engine_t *e) { eventfd_write(e->notify, 1); }

/* Wall minus monotonic; a reading that was interrupted is taken again. */
static void read_wall(engine_t *e)
{
    int64_t best = FAR, wall = e->wall;
    for (int i = 0; i < 4 && best > 500; i++) {
        int64_t before = engine_now(), real = wall_now(), after = engine_now();
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

void count_ring_drops(dir_t *d, int64_t now)
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

void fail(engine_t *e, uint32_t id)
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

void service(engine_t *e, uint32_t id)
{
    dir_t *d = e->dir[id];
    if (d->st.gone) {
        e->due[id] = FAR;
        return;
    }
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

void *work(void *arg)
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
