#include "pipeline.h"
#include <stdlib.h>
#include <string.h>

#define RETRY INT64_MIN
#define PAST_KEPT 1000000000 /* ns of timeline kept behind the clock for frames that still sit in a receive ring */

/* Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014). */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int hit(uint64_t *state, uint64_t probability)
{
    return draw(state) < probability || probability == UINT64_MAX;
}

/* (1 - ber)^bits in units of 2^-64, by squaring: integers, so that every machine agrees */
static uint64_t survival(uint64_t ber, uint64_t bits)
{
    unsigned __int128 base = ((unsigned __int128)1 << 64) - ber, result = (unsigned __int128)1 << 64;
    for (; bits; bits >>= 1) {
        if (bits & 1)
            result = result >> 64 ? base : result * base >> 64;
        base = base >> 64 ? base : base * base >> 64;
    }
    return (uint64_t)result;
}

int64_t delay_at(const seg_t *s, int64_t t)
{
    __int128 delay = (((__int128)s->slope * ((__int128)t - s->ref)) >> 62) + s->delay;
    return delay < 0 ? 0 : delay > FAR / 2 ? FAR / 2 : (int64_t)delay;
}

static void add(count_t *c, uint64_t frames, uint64_t bytes) { c->frames += frames; c->bytes += bytes; }
static void sub(count_t *c, uint64_t bytes) { c->frames--; c->bytes -= bytes; }

pipe_t *pipe_new(const pipe_config_t *cfg, store_t *store)
{
    pipe_t *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->cfg = *cfg;
    p->store = store;
    p->rng = cfg->seed;
    p->next_tx = FAR;
    p->horizon = FAR;
    p->fresh = 1;
    p->clock = p->arrival = p->free_at = p->last_deadline = p->st.last_tx_start = p->st.last_tx_end = p->st.last_rx = INT64_MIN;
    return p;
}

void pipe_free(pipe_t *p)
{
    for (int c = 0; c < MAX_CLASSES; c++)
        fifo_clear(p->store, &p->queue[c]);
    fifo_clear(p->store, &p->flight);
    fifo_clear(p->store, &p->drops);
    calls_free(p);
    free(p->seg);
    free(p->deaf);
    free(p);
}

static void dropped(pipe_t *p, const rec_t *r, int64_t when, int reason)
{
    add(&p->st.drop, 1, r->len);
    add(&p->st.reason[reason], 1, r->len);
    add(&p->st.cls_drop[r->cls], 1, r->len);
    if (p->cfg.report) {
        rec_t *d = fifo_put(p->store, &p->drops, rec_size(0), when, 0);
        if (d) {
            *d = *r;
            d->t = when;
            d->reason = (uint8_t)reason;
        }
    }
}

/* Replace the timeline from an instant on. What is already decided stays: all before the clock, unless it lay beyond the
 * horizon. */
int pipe_replace(pipe_t *p, int64_t from, const seg_t *seg, size_t n, int64_t horizon)
{
    int64_t decided = p->clock + 1 < p->horizon ? p->clock + 1 : p->horizon;
    if (from < decided)
        from = decided;
    while (p->segs && p->seg[p->segs - 1].t0 >= from)
        p->segs--;
    if (p->cur >= p->segs)
        p->cur = p->segs ? p->segs - 1 : 0;
    if (!p->busy && !p->st.wait.frames && p->clock > INT64_MIN + PAST_KEPT)
        while (p->cur + 1 < p->segs && p->seg[p->cur + 1].t0 <= p->clock - PAST_KEPT)
            p->cur++;
    if (p->cur) {
        p->segs -= p->cur;
        memmove(p->seg, p->seg + p->cur, p->segs * sizeof *p->seg);
        p->cur = 0;
    }
    if (p->segs + n > p->seg_cap) {
        seg_t *more = realloc(p->seg, (p->segs + n) * sizeof *more);
        if (!more)
            return -1;
        p->seg = more;
        p->seg_cap = p->segs + n;
    }
    for (size_t i = 0; i < n; i++) {
        seg_t s = seg[i];
        if (s.t0 < from)
            s.t0 = from;
        if (p->segs && p->seg[p->segs - 1].t0 >= s.t0)
            p->segs--;
        p->seg[p->segs++] = s;
    }
    p->horizon = horizon > decided ? horizon : decided;
    if (p->busy || p->st.wait.frames)
        p->next_tx = RETRY;
    return 0;
}

int pipe_deaf(pipe_t *p, int64_t from, const span_t *span, size_t n)
{
    while (p->deafs && p->deaf[p->deafs - 1].start >= from)
        p->deafs--;
    if (p->deafs && p->deaf[p->deafs - 1].end > from)
        p->deaf[p->deafs - 1].end = from;
    if (p->deaf_cur) {
        size_t gone = p->deaf_cur < p->deafs ? p->deaf_cur : p->deafs;
        p->deafs -= gone;
        memmove(p->deaf, p->deaf + gone, p->deafs * sizeof *p->deaf);
        p->deaf_cur = 0;
    }
    if (p->deafs + n > p->deaf_cap) {
        span_t *more = realloc(p->deaf, (p->deafs + n) * sizeof *more);
        if (!more)
            return -1;
        p->deaf = more;
        p->deaf_cap = p->deafs + n;
    }
    memcpy(p->deaf + p->deafs, span, n * sizeof *span);
    p->deafs += n;
    return 0;
}

void pipe_refuse(pipe_t *p, uint32_t len, uint32_t cls, int64_t now, uint64_t id, int reason)
{
    rec_t r = {.t = now, .sent = INT64_MIN, .id = id, .len = len, .cls = (uint8_t)cls};
    add(&p->st.in, 1, len);
    add(&p->st.cls_in[cls], 1, len);
    dropped(p, &r, now, reason);
}

/* A frame arrives. Occupancy is judged as it was at that instant, however late the caller is. */
void pipe_push(pipe_t *p, const void *data, uint32_t len, uint32_t cls, int64_t now, uint64_t id)
{
    if (now < p->arrival)
        now = p->arrival;
    p->arrival = now;
    pipe_advance(p, now);
    const count_t *room = &p->room[cls];
    rec_t *r = NULL;
    uint32_t size = rec_size(p->cfg.carry ? len : 0);
    if (len > p->cfg.max_frame) {
        pipe_refuse(p, len, cls, now, id, OVERSIZED);
    } else if (room->bytes + len > p->cfg.limit_bytes[cls] || room->frames + 1 > p->cfg.limit_frames[cls]) {
        pipe_refuse(p, len, cls, now, id, QUEUE_FULL);
    } else if (!(r = fifo_put(p->store, &p->queue[cls], size, now, 0))) {
        pipe_refuse(p, len, cls, now, id, RAM_FULL);
    } else {
        *r = (rec_t){.t = now, .sent = INT64_MIN, .id = id, .len = len, .cls = (uint8_t)cls, .quiet = (uint8_t)p->quiet};
        if (p->cfg.carry)
            memcpy(r + 1, data, len);
        else
            call_queued(p, cls, len);
        add(&p->st.in, 1, len);
        add(&p->st.cls_in[cls], 1, len);
        if (!p->st.wait.frames)
            p->next_tx = now;
        add(&p->st.wait, 1, len);
        add(&p->st.cls_wait[cls], 1, len);
        add(&p->room[cls], 1, len);
    }
}

/* The frame at the front of a class leaves the queue. */
static void unqueue(pipe_t *p, uint32_t cls, uint32_t len)
{
    fifo_pop(&p->queue[cls], rec_size(p->cfg.carry ? len : 0));
    if (!p->cfg.carry)
        call_left(p, cls, len);
    sub(&p->st.wait, len);
    sub(&p->st.cls_wait[cls], len);
}

static rec_t *waiting(pipe_t *p, uint32_t cls, int64_t start)
{
    rec_t *r = p->room[cls].frames ? fifo_peek(p->store, &p->queue[cls]) : NULL;
    return r && r->t <= start ? r : NULL;
}

/* Strict priority in class order, or deficit round robin (Shreedhar and Varghese 1995). */
static uint32_t pick(pipe_t *p, int64_t start)
{
    if (!p->cfg.weighted)
        for (uint32_t c = 0;; c++)
            if (waiting(p, c, start))
                return c;
    for (;;) {
        uint32_t c = p->turn;
        rec_t *r = waiting(p, c, start);
        if (r && p->fresh)
            p->deficit[c] += p->cfg.quantum[c];
        p->fresh = 0;
        if (r && p->deficit[c] >= r->len) {
            p->deficit[c] -= r->len;
            return c;
        }
        if (!r)
            p->deficit[c] = 0;
        p->turn = (c + 1) % p->cfg.classes;
        p->fresh = 1;
    }
}

static void flip_bits(uint8_t *data, uint32_t len, uint64_t ber, uint64_t seed)
{
    uint32_t head = len > 14 ? 14 : 0; /* space links carry no Ethernet header that noise could hit */
    uint64_t bits = 8ull * (len - head), flips = (uint64_t)((unsigned __int128)ber * bits >> 64);
    for (uint64_t i = 0; bits && i < (flips ? flips : 1); i++) {
        uint64_t bit = draw(&seed) % bits;
        data[head + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* The last bit of the frame in service has left. */
static void finish(pipe_t *p, int cut)
{
    const seg_t *s = &p->busy_seg;
    rec_t *r = fifo_peek(p->store, &p->queue[p->busy_cls]);
    int reason = cut ? CUT : DELIVERED;
    uint64_t noise = 0;
    if (!cut) {
        if (s->flags & SEG_BURSTS && hit(&p->rng, p->bad ? s->to_good : s->to_bad))
            p->bad = !p->bad;
        uint64_t loss = s->flags & SEG_BURSTS && p->bad ? s->bad_loss : s->loss;
        if (loss && hit(&p->rng, loss))
            reason = LOSS;
        else if (s->ber && (noise = draw(&p->rng)) >= survival(s->ber, 8ull * r->len))
            reason = s->flags & SEG_CORRUPT ? DELIVERED : BIT_ERROR;
        else
            noise = 0;
    }
    r->sent = p->busy_start;
    p->st.last_tx_start = p->busy_start;
    p->st.last_tx_end = p->busy_end;
    uint32_t size = rec_size(p->cfg.carry ? r->len : 0);
    rec_t *f = NULL;
    if (reason == DELIVERED) {
        int64_t deadline = p->busy_end + delay_at(s, p->busy_end);
        if (deadline < p->last_deadline)
            deadline = p->last_deadline;
        f = fifo_put(p->store, &p->flight, size, deadline, 1);
        if (f) {
            memcpy(f, r, size);
            f->t = p->last_deadline = deadline;
            if (!p->cfg.carry && !f->quiet)
                call_flies(p, deadline);
            if (noise) {
                f->corrupt = 1;
                p->st.corrupted++;
                if (p->cfg.carry)
                    flip_bits((uint8_t *)(f + 1), f->len, s->ber, noise);
            }
            add(&p->st.fly, 1, f->len);
            add(&p->flight.head->count[f->cls], 1, f->len);
        } else {
            reason = p->store->st.last_errno ? DISK_FULL : RAM_FULL;
        }
    }
    if (p->tap)
        p->tap(p->tap_ctx, r, (const uint8_t *)(r + 1), p->busy_start, reason);
    if (!f)
        dropped(p, r, p->busy_end, reason);
    unqueue(p, p->busy_cls, r->len);
    p->busy = 0;
}

/* Nothing before the horizon decides: wait for it, or for the rest of the timeline. */
static int64_t blocked(pipe_t *p, int64_t until)
{
    if (p->horizon != FAR && p->horizon <= until)
        p->st.stalls++;
    return p->horizon > until ? p->horizon : FAR;
}

/* The frame in service ends, or the transmitter goes down under it. */
static int64_t end_service(pipe_t *p, int64_t until)
{
    int64_t end = p->busy_end;
    int cut = 0;
    for (size_t k = p->cur; !cut && k < p->segs && p->seg[k].t0 < end; k++)
        if (p->seg[k].t0 > p->busy_start && !(p->seg[k].flags & SEG_UP)) {
            end = p->seg[k].t0;
            cut = 1;
        }
    if (end > p->horizon)
        return blocked(p, until);
    if (end > until)
        return end;
    p->busy_end = end;
    p->free_at = cut ? end : p->busy_free;
    p->frac = cut ? 0 : p->busy_frac;
    finish(p, cut);
    return RETRY;
}

static int64_t begin_service(pipe_t *p, int64_t until)
{
    rec_t *oldest = NULL;
    for (uint32_t c = 0; c < p->cfg.classes; c++) {
        rec_t *r = waiting(p, c, FAR);
        if (r && (!oldest || r->t < oldest->t))
            oldest = r;
    }
    if (!oldest)
        return FAR; /* nothing waits */
    int64_t start = oldest->t > p->free_at ? oldest->t : p->free_at;
    uint64_t frac = oldest->t > p->free_at ? 0 : p->frac;
    size_t k = p->cur;
    for (;;) {
        if (start >= p->horizon || !p->segs)
            return blocked(p, until);
        while (k + 1 < p->segs && p->seg[k + 1].t0 <= start)
            k++;
        if (start < p->seg[k].t0) {
            start = p->seg[k].t0;
            frac = 0;
            continue;
        }
        if (p->seg[k].flags & SEG_UP)
            break;
        if (!(p->seg[k].flags & SEG_HOLD)) {
            if (start > until)
                return start;
            p->cur = k;
            sub(&p->room[oldest->cls], oldest->len);
            dropped(p, oldest, start, DOWN);
            unqueue(p, oldest->cls, oldest->len);
            return RETRY;
        }
        start = k + 1 < p->segs ? p->seg[k + 1].t0 : p->horizon;
        frac = 0;
    }
    if (start > until)
        return start;
    p->cur = k;
    p->busy_cls = pick(p, start);
    rec_t *r = fifo_peek(p->store, &p->queue[p->busy_cls]);
    sub(&p->room[p->busy_cls], r->len);
    p->busy = 1;
    p->busy_seg = p->seg[k];
    p->busy_start = start;
    unsigned __int128 total = (unsigned __int128)r->len * p->busy_seg.byte_time + frac;
    p->busy_free = start + (int64_t)(total >> FRAC_BITS);
    p->busy_frac = (uint64_t)total & ((1u << FRAC_BITS) - 1);
    p->busy_end = p->busy_free + (p->busy_frac != 0);
    return RETRY;
}

void pipe_advance(pipe_t *p, int64_t until)
{
    if (until > p->clock)
        p->clock = until;
    while (p->next_tx <= until)
        p->next_tx = p->busy ? end_service(p, until) : begin_service(p, until);
}

static int deaf_at(pipe_t *p, int64_t t)
{
    while (p->deaf_cur < p->deafs && p->deaf[p->deaf_cur].end <= t)
        p->deaf_cur++;
    return p->deaf_cur < p->deafs && p->deaf[p->deaf_cur].start <= t;
}

/* The chunk at the tail cannot be read any more: its frames are counted, not known one by one. */
static void lose_chunk(pipe_t *p, int reason)
{
    for (uint32_t k = 0; k < MAX_CLASSES; k++) {
        const count_t *n = &p->flight.tail->count[k];
        count_t *sums[] = {&p->st.drop, &p->st.reason[reason], &p->st.cls_drop[k]};
        for (int i = 0; i < 3; i++)
            add(sums[i], n->frames, n->bytes);
        p->st.fly.frames -= n->frames;
        p->st.fly.bytes -= n->bytes;
    }
    fifo_skip(p->store, &p->flight);
}

/* Frames that are due, from one chunk; a frame that the receiver misses carries its reason. They stay until released. */
size_t pipe_gather(pipe_t *p, int64_t now, rec_t **out, size_t max)
{
    size_t n = 0;
    while (p->flight.tail && p->flight.tail->place == LOST && p->flight.tail->first <= now)
        lose_chunk(p, DISK_ERROR);
    rec_t *r = p->st.fly.frames ? fifo_peek(p->store, &p->flight) : NULL;
    uint32_t at = p->flight.at;
    while (r && n < max && r->t <= now) {
        r->reason = deaf_at(p, r->t) ? RECEIVER_DOWN : DELIVERED;
        out[n++] = r;
        at += rec_size(p->cfg.carry ? r->len : 0);
        r = at < p->flight.tail->used ? (rec_t *)(p->flight.tail->data + at) : NULL;
    }
    return n;
}

void pipe_release(pipe_t *p, size_t n)
{
    for (; n; n--) {
        rec_t *r = fifo_peek(p->store, &p->flight);
        sub(&p->st.fly, r->len);
        if (!p->cfg.carry && !r->quiet)
            call_arrived(p);
        if (r->reason == DELIVERED) {
            add(&p->st.out, 1, r->len);
            add(&p->st.cls_out[r->cls], 1, r->len);
            p->st.last_rx = r->t;
        } else {
            dropped(p, r, r->t, r->reason);
        }
        fifo_pop(&p->flight, rec_size(p->cfg.carry ? r->len : 0));
    }
}

/* Outcomes up to `now`: drops of the sending side in order, then arrivals in order. */
size_t pipe_pop(pipe_t *p, int64_t now, rec_t *out, size_t max)
{
    pipe_advance(p, now);
    size_t n = 0;
    rec_t *due[64], *d;
    for (; n < max && (d = fifo_peek(p->store, &p->drops)); n++) {
        out[n] = *d;
        fifo_pop(&p->drops, rec_size(0));
    }
    while (n < max) {
        size_t k = pipe_gather(p, now, due, max - n < 64 ? max - n : 64);
        if (!k)
            break;
        uint32_t report = p->cfg.report;
        p->cfg.report = 0; /* what the receiver missed is reported in its place */
        for (size_t i = 0; i < k; i++)
            out[n++] = *due[i];
        pipe_release(p, k);
        p->cfg.report = report;
    }
    return n;
}

int64_t pipe_next(pipe_t *p)
{
    pipe_advance(p, p->clock);
    int64_t due = p->st.fly.frames ? fifo_due(p->store, &p->flight, p->clock) : FAR;
    if (fifo_peek(p->store, &p->drops) && p->clock < due)
        due = p->clock;
    return due < p->next_tx ? due : p->next_tx;
}

int pipe_balanced(pipe_t *p)
{
    const pipe_stats_t *s = &p->st;
    int ok = s->in.frames == s->out.frames + s->wait.frames + s->fly.frames + s->drop.frames &&
             s->in.bytes == s->out.bytes + s->wait.bytes + s->fly.bytes + s->drop.bytes;
    p->st.broken += !ok;
    return ok;
}

/* The link is gone: account for what is still in it. */
void pipe_abandon(pipe_t *p, int64_t now)
{
    for (uint32_t c = 0; c < p->cfg.classes; c++) {
        rec_t *r;
        while ((r = fifo_peek(p->store, &p->queue[c]))) {
            dropped(p, r, now, LINK_GONE);
            unqueue(p, c, r->len);
        }
        p->room[c] = (count_t){0, 0};
    }
    while (p->flight.tail) {
        for (rec_t *r; (r = fifo_peek(p->store, &p->flight));) {
            sub(&p->st.fly, r->len);
            dropped(p, r, now, LINK_GONE);
            fifo_pop(&p->flight, rec_size(p->cfg.carry ? r->len : 0));
        }
        if (p->flight.tail && p->flight.at < p->flight.tail->used)
            lose_chunk(p, LINK_GONE);
        else if (p->flight.tail)
            fifo_skip(p->store, &p->flight);
    }
    p->busy = 0;
    p->next_tx = FAR;
}

/* Parameters in force at `now`. */
int pipe_at(pipe_t *p, int64_t now, seg_t *out, int64_t *delay)
{
    size_t k = 0;
    if (!p->segs || now < p->seg[0].t0 || now >= p->horizon)
        return 0;
    while (k + 1 < p->segs && p->seg[k + 1].t0 <= now)
        k++;
    *out = p->seg[k];
    *delay = delay_at(out, now);
    return 1;
}

pipe_t *solo_new(const pipe_config_t *cfg)
{
    store_t *s = malloc(sizeof *s);
    if (!s)
        return NULL;
    store_init(s, UINT64_MAX);
    pipe_t *p = pipe_new(cfg, s);
    if (!p)
        store_free(s), free(s);
    return p;
}

void solo_free(pipe_t *p)
{
    store_t *s = p->store;
    pipe_free(p);
    store_free(s);
    free(s);
}

void pipe_stats(pipe_t *p, pipe_stats_t *out)
{
    pipe_balanced(p);
    *out = p->st;
}
