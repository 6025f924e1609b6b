/* The packet path: from a receive ring through a pipeline to a socket. */
#define _GNU_SOURCE
#include "engine.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#define RX_BATCH 256
#define TX_BATCH 64
#define TX_TURN 512       /* frames that one direction may send before the others get their turn */
#define HOLD_SLOT 488     /* ns for which frames may gather in the ring, for each of its slots; 1 ms at most */
#define HOLD_MOST 1000000
#define FAR_AWAY 10 /* times as long it takes to the other end at least */
#define TRAIN 8     /* frames in that time after which more are waited for */
#define STEP_LIMIT 200000 /* ns by which wall clock and monotonic clock may part between two readings */

static const char *const reason_names[REASONS] = {
    "delivered", "queue_full", "down",      "cut",        "loss",   "bit_error", "receiver_down",
    "oversized", "ram_full",   "disk_full", "disk_error", "egress", "ring",      "link_gone"};

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int64_t engine_now(void) { return clock_ns(CLOCK_MONOTONIC); }

/* Wall minus monotonic; a reading that was interrupted is taken again. */
void read_wall(engine_t *e)
{
    int64_t best = FAR, wall = e->wall;
    for (int i = 0; i < 4 && best > 500; i++) {
        int64_t before = engine_now(), real = clock_ns(CLOCK_REALTIME), after = engine_now();
        if (after - before < best) {
            best = after - before;
            wall = real - before - best / 2;
        }
    }
    e->steps += llabs(wall - e->wall) > STEP_LIMIT;
    e->wall = wall;
}

static void put(capture_t *c, uint64_t *at, const void *data, uint32_t len)
{
    uint32_t from = *at % CAPTURE_BYTES, room = CAPTURE_BYTES - from;
    memcpy(c->ring + from, data, len < room ? len : room);
    memcpy(c->ring, (const uint8_t *)data + (len < room ? len : room), len < room ? 0 : len - room);
    *at += len;
}

/* An enhanced packet block of pcapng (draft-ietf-opsawg-pcapng): on interface 0 a frame's first bit leaves, on
 * interface 1 its last bit arrives; epb_packetid joins the two, and the comment of a frame that was lost says why. */
void capture_frame(void *capture, uint32_t side, const rec_t *r, int64_t when, int reason)
{
    capture_t *c = capture;
    uint32_t why = reason == DELIVERED ? 0 : (uint32_t)strlen(reason_names[reason]), zero[2] = {0, 0};
    uint32_t size = 32 + ((r->len + 3) & ~3u) + (why ? 4 + ((why + 3) & ~3u) : 0) + 12 + 4;
    uint64_t stamp = (uint64_t)(when + c->offset), before = c->written, at = before;
    if (at + size - __atomic_load_n(&c->drained, __ATOMIC_ACQUIRE) > CAPTURE_BYTES) {
        c->lost++;
        return;
    }
    uint32_t head[] = {6, size, side, (uint32_t)(stamp >> 32), (uint32_t)stamp, r->len, r->len};
    put(c, &at, head, sizeof head);
    put(c, &at, r + 1, r->len);
    put(c, &at, zero, -r->len & 3);
    if (why) {
        put(c, &at, (uint16_t[]){1, (uint16_t)why}, 4);
        put(c, &at, reason_names[reason], why);
        put(c, &at, zero, -why & 3);
    }
    put(c, &at, (uint16_t[]){5, 8}, 4);
    put(c, &at, &r->id, 8);
    put(c, &at, zero, 4);
    put(c, &at, &size, 4);
    __atomic_store_n(&c->written, at, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&c->drained, __ATOMIC_SEQ_CST) == before)
        eventfd_write(c->event, 1);
}

/* For the thread that empties the ring: it has written all before `drained`; returns what there is now. */
uint64_t capture_drained(capture_t *c, uint64_t drained)
{
    __atomic_store_n(&c->drained, drained, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&c->written, __ATOMIC_SEQ_CST);
}

static uint32_t class_of(const dir_t *d, const uint8_t *f, uint32_t len)
{
    uint32_t at = 12;
    for (int tags = 0; tags < 2 && len >= at + 6; tags++, at += 4) {
        uint32_t type = (uint32_t)f[at] << 8 | f[at + 1];
        if (type != ETH_P_8021Q && type != ETH_P_8021AD)
            break;
    }
    uint32_t type = len < at + 4 ? 0 : (uint32_t)f[at] << 8 | f[at + 1];
    if (type == ETH_P_IP)
        return d->cfg.class_of[f[at + 3] >> 2];
    if (type == ETH_P_IPV6)
        return d->cfg.class_of[((f[at + 2] & 15u) << 4 | f[at + 3] >> 4) >> 2];
    return d->cfg.class_default;
}

void count_ring_drops(dir_t *d)
{
    struct tpacket_stats s;
    socklen_t n = sizeof s;
    if (getsockopt(d->cfg.rx, SOL_PACKET, PACKET_STATISTICS, &s, &n))
        return;
    d->st.ring_drops += s.tp_drops;
    while (s.tp_drops--)
        pipe_refuse(d->pipe, 0, d->cfg.class_default, line_time(d, engine_now()), 0, RING);
}

static void accept_frame(dir_t *d, struct tpacket2_hdr *h, uint32_t status, int64_t *mono)
{
    uint8_t tagged[ETH_HLEN + 10240], *f = (uint8_t *)h + h->tp_mac;
    uint32_t len = h->tp_len;
    int64_t stamp = h->tp_sec * 1000000000ll + h->tp_nsec - d->engine->wall;
    if (stamp > *mono)
        *mono = engine_now();
    if (stamp > *mono || stamp < d->empty_at - STAMP_SLACK) {
        d->st.bad_stamps += stamp > *mono + STAMP_SLACK || stamp < d->empty_at - STAMP_SLACK;
        stamp = *mono;
    }
    int64_t now = line_time(d, stamp);
    d->st.unfinished_sums += (status & TP_STATUS_CSUMNOTREADY) != 0;
    if (h->tp_snaplen < h->tp_len || len + 4 > sizeof tagged) {
        pipe_refuse(d->pipe, len, d->cfg.class_default, now, 0, OVERSIZED);
        return;
    }
    if (status & TP_STATUS_VLAN_VALID && len >= 12) {
        uint16_t type = status & TP_STATUS_VLAN_TPID_VALID ? h->tp_vlan_tpid : ETH_P_8021Q;
        memcpy(tagged, f, 12);
        memcpy(tagged + 12, (uint16_t[]){htons(type), htons(h->tp_vlan_tci)}, 4);
        memcpy(tagged + 16, f + 12, len - 12);
        f = tagged;
        len += 4;
    }
    pipe_push(d->pipe, f, len, class_of(d, f, len), now, ++d->next_id);
}

/* Take frames from the receive ring; returns whether it is empty now. */
static int drain(dir_t *d)
{
    uint32_t per_block = RING_BLOCK >> d->shift;
    int64_t mono = engine_now();
    for (int n = 0; n < RX_BATCH; n++) {
        size_t block = d->pos / per_block, slot = d->pos % per_block;
        struct tpacket2_hdr *h = (void *)(d->cfg.ring + block * RING_BLOCK + (slot << d->shift));
        uint32_t status = __atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE);
        if (!(status & TP_STATUS_USER)) {
            if (!n)
                d->empty_at = mono;
            return 1;
        }
        if (!n)
            read_wall(d->engine);
        d->taken++;
        if (status & TP_STATUS_LOSING)
            count_ring_drops(d);
        accept_frame(d, h, status, &mono);
        __atomic_store_n(&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        d->pos = d->pos + 1 == d->cfg.slots ? 0 : d->pos + 1;
    }
    return 0;
}

/* Buckets: below 1024 ns, then eight per octave. */
static void note_lateness(wire_stats_t *s, int64_t late)
{
    s->early += late < 0;
    late = late < 0 ? 0 : late;
    int octave = late < 1024 ? 0 : 63 - __builtin_clzll((uint64_t)late);
    int bucket = octave ? (octave - 10) * 8 + (int)(late >> (octave - 3) & 7) + 1 : 0;
    s->late[bucket < LATE_BUCKETS ? bucket : LATE_BUCKETS - 1]++;
    s->late_frames++;
    s->late_sum += (uint64_t)late;
    s->late_max = (uint64_t)late > s->late_max ? (uint64_t)late : s->late_max;
}

static void send_batch(dir_t *d, rec_t **due, size_t n)
{
    struct mmsghdr msg[TX_BATCH];
    struct iovec io[TX_BATCH];
    rec_t *rec[TX_BATCH];
    unsigned k = 0, sent = 0;
    memset(msg, 0, sizeof msg);
    for (size_t i = 0; i < n; i++) {
        if (d->capture)
            capture_frame(d->capture, 1, due[i], due[i]->t, due[i]->reason);
        if (due[i]->reason != DELIVERED)
            continue;
        rec[k] = due[i];
        io[k] = (struct iovec){due[i] + 1, due[i]->len};
        msg[k].msg_hdr.msg_iov = &io[k];
        msg[k++].msg_hdr.msg_iovlen = 1;
    }
    int64_t now = line_time(d, engine_now());
    while (sent < k) {
        int r = sendmmsg(d->cfg.tx, msg + sent, k - sent, 0);
        if (r >= 0) {
            sent += (unsigned)r;
        } else if (errno != EINTR) {
            d->st.egress_errno = errno;
            rec[sent++]->reason = EGRESS;
            if (errno == ENXIO || errno == ENODEV) /* it may have vanished: the caller knows */
                eventfd_write(d->engine->alarm, 1);
        }
    }
    for (unsigned i = 0; i < k; i++)
        if (rec[i]->reason == DELIVERED)
            note_lateness(&d->st, now - rec[i]->t);
    pipe_release(d->pipe, n);
}

/* Frames that come one after another to leave for far away wake nobody one by one, for whom their sender would have to
 * stop: they gather for a while, unless they may fill the ring. The kernel has noted when each came. */
static void gather(dir_t *d, int64_t mono)
{
    if (d->deaf ? mono < d->deaf : !d->taken)
        return;
    int64_t now = line_time(d, mono), slots = d->cfg.slots, since = mono - d->came;
    int64_t hold = slots * HOLD_SLOT < HOLD_MOST ? slots * HOLD_SLOT : HOLD_MOST;
    int fit = !d->capture && !d->st.paused && pipe_soonest(d->pipe, now) - now >= FAR_AWAY * hold &&
              d->taken * hold <= slots / 8 * since;
    int more = d->deaf ? d->taken >= TRAIN : d->train || d->taken > 1 || since < hold;
    d->train = d->deaf ? d->taken > 0 : more;
    if (fit && more)
        d->deaf = d->deaf || listen_to(d, 0) ? mono + hold : 0;
    else if (d->deaf)
        d->deaf = listen_to(d, EPOLLIN) ? 0 : mono + hold;
    d->came = mono;
    d->taken = 0;
}

/* One turn of a direction: take what has come, send what is due, and find out when there is more to do. */
void service(dir_t *d)
{
    engine_t *e = d->engine;
    pipe_t *p = d->pipe;
    rec_t *due[TX_BATCH];
    e->due[d->id] = FAR;
    if (d->st.gone)
        return;
    int64_t mono = engine_now(), now = line_time(d, mono);
    int empty = drain(d);
    gather(d, mono);
    pipe_advance(p, empty || p->arrival > now ? now : p->arrival);
    for (size_t turn = 0, n; turn < TX_TURN && (n = pipe_gather(p, now, due, TX_BATCH)); turn += n)
        send_batch(d, due, n);
    pipe_balanced(p);
    int64_t fetch = fifo_fetch(&e->store, &p->flight, now);
    int64_t next = d->capture ? pipe_next(p) : pipe_next_arrival(p);
    if (fetch < next)
        next = fetch;
    if (!empty)
        e->due[d->id] = 0;
    else if (next != FAR && !d->st.paused)
        e->due[d->id] = next - d->offset;
    if (d->deaf && d->deaf < e->due[d->id])
        e->due[d->id] = d->deaf;
}
