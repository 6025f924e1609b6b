#include "pipeline.h"
#include <stdlib.h>
#include <string.h>

#define ONE ((__int128)1 << 30)
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

static void add(count_t *c, uint64_t frames, uint64_t bytes)
{
    c->frames += frames;
    c->bytes += bytes;
}

static uint32_t size_of(const pipe_t *p, uint32_t len) { return rec_size(p->cfg.carry ? len : 0); }

/* `store` is NULL for a pipeline that has one of its own. */
pipe_t *pipe_new(const pipe_config_t *cfg, store_t *store)
{
    pipe_t *p = calloc(1, sizeof *p + (store ? 0 : sizeof *store));
    if (!p)
        return NULL;
    if (!store)
        store_init(store = (store_t *)(p + 1), UINT64_MAX, -1, -1, -1);
    p->cfg = *cfg;
    p->store = store;
    p->rng = cfg->seed;
    p->next_tx = p->horizon = FAR;
    p->fresh = 1;
    p->clock = p->arrival = p->last_deadline = p->st.last_tx = p->st.last_rx = INT64_MIN;
    p->free_at = (__int128)INT64_MIN * ONE;
    return p;
}

static void clear(pipe_t *p)
{
    for (int c = 0; c < MAX_CLASSES; c++)
        fifo_clear(p->store, &p->queue[c]);
    fifo_clear(p->store, &p->flight);
    fifo_clear(p->store, &p->drops);
}

void pipe_free(pipe_t *p)
{
    clear(p);
    if (p->store == (store_t *)(p + 1))
        store_free(p->store);
    calls_free(p);
    free(p->sender.seg);
    free(p->receiver.seg);
    free(p);
}

/* The segment in force at an instant, sought from `k` on; the first one before all of them. */
size_t in_force(const track_t *k, size_t from, int64_t t)
{
    while (from + 1 < k->n && k->seg[from + 1].t0 <= t)
        from++;
    return from;
}

/* Replace what begins at `from` or later; forget what ended before `past`. */
static int track_replace(track_t *k, int64_t from, const seg_t *seg, size_t n, int64_t past)
{
    while (k->n && k->seg[k->n - 1].t0 >= from)
        k->n--;
    size_t first = in_force(k, k->cur < k->n ? k->cur : k->n ? k->n - 1 : 0, past), kept = k->n - first;
    seg_t *all = malloc((kept + n + 1) * sizeof *all);
    if (!all)
        return -1;
    if (kept)
        memcpy(all, k->seg + first, kept * sizeof *all);
    for (size_t i = 0; i < n; i++) {
        seg_t s = seg[i];
        if (s.t0 < from)
            s.t0 = from;
        if (kept && all[kept - 1].t0 >= s.t0)
            kept--;
        all[kept++] = s;
    }
    free(k->seg);
    *k = (track_t){all, kept, 0};
    return 0;
}

/* Replace the timeline from an instant on. What is already decided stays: all before the clock, unless it lay beyond the
 * horizon. */
int pipe_replace(pipe_t *p, int64_t from, const seg_t *seg, size_t n, int64_t horizon)
{
    int64_t decided = p->clock + 1 < p->horizon ? p->clock + 1 : p->horizon;
    int idle = !p->busy && !p->waiting && p->clock > INT64_MIN + PAST_KEPT;
    if (track_replace(&p->sender, from > decided ? from : decided, seg, n, idle ? p->clock - PAST_KEPT : INT64_MIN))
        return -1;
    p->horizon = horizon > decided ? horizon : decided;
    if (p->busy || p->waiting)
        p->next_tx = RETRY;
    return 0;
}

int pipe_receiver(pipe_t *p, int64_t from, const seg_t *seg, size_t n)
{
    return track_replace(&p->receiver, from, seg, n, INT64_MIN);
}

static void count_drop(pipe_t *p, const rec_t *r, int reason)
{
    add(&p->st.drop[r->cls], 1, r->len);
    add(&p->st.reason[reason], 1, r->len);
}

static void drop(pipe_t *p, const rec_t *r, int64_t when, int reason)
{
    count_drop(p, r, reason);
    rec_t *d = p->cfg.carry ? NULL : fifo_put(p->store, &p->drops, rec_size(0), when, 0);
    if (d) {
        *d = *r;
        d->t = when;
        d->reason = (uint8_t)reason;
    }
}

void pipe_refuse(pipe_t *p, uint32_t len, uint32_t cls, int64_t now, uint64_t id, int reason)
{
    rec_t r = {.t = now, .sent = INT64_MIN, .id = id, .len = len, .cls = (uint8_t)cls};
    add(&p->st.in[cls], 1, len);
    drop(p, &r, now, reason);
}

/* What waits in a class, without the frame being sent. */
count_t waiting(const pipe_t *p, uint32_t cls)
{
    count_t room = p->st.wait[cls];
    if (p->busy && p->busy_cls == cls)
        add(&room, -1ull, -(uint64_t)p->busy_len);
    return room;
}

/* A frame arrives. Occupancy is judged as it was at that instant, however late the caller is. */
void pipe_push(pipe_t *p, const void *data, uint32_t len, uint32_t cls, int64_t now, uint64_t id)
{
    if (now < p->arrival)
        now = p->arrival;
    p->arrival = now;
    pipe_advance(p, now);
    count_t room = waiting(p, cls);
    rec_t *r;
    if (len > p->cfg.max_frame) {
        pipe_refuse(p, len, cls, now, id, OVERSIZED);
    } else if (room.bytes + len > p->cfg.limit_bytes[cls] || room.frames + 1 > p->cfg.limit_frames[cls]) {
        pipe_refuse(p, len, cls, now, id, QUEUE_FULL);
    } else if (!(r = fifo_put(p->store, &p->queue[cls], size_of(p, len), now, 0))) {
        pipe_refuse(p, len, cls, now, id, RAM_FULL);
    } else {
        *r = (rec_t){.t = now, .sent = INT64_MIN, .id = id, .len = len, .cls = (uint8_t)cls, .quiet = (uint8_t)p->quiet};
        if (p->cfg.carry)
            memcpy(r + 1, data, len);
        else
            call_queued(p, cls, len);
        add(&p->st.in[cls], 1, len);
        add(&p->st.wait[cls], 1, len);
        if (!p->waiting++)
            p->next_tx = now;
    }
}

/* The frame at the front of a class leaves the queue. */
static void unqueue(pipe_t *p, uint32_t cls, uint32_t len)
{
    p->queue[cls].at += size_of(p, len);
    if (!p->cfg.carry)
        call_left(p, cls, len);
    p->waiting--;
    add(&p->st.wait[cls], -1ull, -(uint64_t)len);
}

static rec_t *front(pipe_t *p, uint32_t cls, int64_t start)
{
    rec_t *r = p->st.wait[cls].frames ? fifo_peek(p->store, &p->queue[cls]) : NULL;
    return r && r->t <= start ? r : NULL;
}

/* Strict priority in class order, or deficit round robin (Shreedhar and Varghese 1995). */
static uint32_t pick(pipe_t *p, int64_t start)
{
    for (uint32_t c = 0; !p->cfg.weighted; c++)
        if (front(p, c, start))
            return c;
    for (;;) {
        uint32_t c = p->turn;
        rec_t *r = front(p, c, start);
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

/* What becomes of a frame on its way; `noise` is nonzero when it arrives with bit errors. */
static int fate(pipe_t *p, const seg_t *s, uint32_t len, uint64_t *noise)
{
    if (s->flags & SEG_BURSTS && hit(&p->rng, p->bad ? s->to_good : s->to_bad))
        p->bad = !p->bad;
    uint64_t loss = s->flags & SEG_BURSTS && p->bad ? s->bad_loss : s->loss;
    if (loss && hit(&p->rng, loss))
        return LOSS;
    if (!s->ber || (*noise = draw(&p->rng)) < survival(s->ber, 8ull * len))
        return *noise = 0, DELIVERED;
    return s->flags & SEG_CORRUPT ? DELIVERED : BIT_ERROR;
}

/* The last bit of the frame in service has left. */
static void finish(pipe_t *p, int cut)
{
    const seg_t *s = &p->busy_seg;
    rec_t *r = fifo_peek(p->store, &p->queue[p->busy_cls]), *f = NULL;
    uint64_t noise = 0;
    int reason = cut ? CUT : fate(p, s, r->len, &noise);
    r->sent = p->st.last_tx = p->busy_start;
    if (reason == DELIVERED) {
        int64_t deadline = p->busy_end + delay_at(s, p->busy_end);
        if (deadline < p->last_deadline)
            deadline = p->last_deadline;
        uint32_t size = size_of(p, r->len);
        f = fifo_put(p->store, &p->flight, size, deadline, 1);
        if (f) {
            memcpy(f, r, size);
            f->t = p->last_deadline = deadline;
            if (!p->cfg.carry && !f->quiet)
                call_flies(p, deadline);
            f->corrupt = noise != 0;
            p->st.corrupted += noise != 0;
            if (noise && p->cfg.carry)
                flip_bits((uint8_t *)(f + 1), f->len, s->ber, noise);
            add(&p->st.fly, 1, f->len);
            add(&p->flight.head->count[f->cls], 1, f->len);
        } else {
            reason = p->store->st.last_errno ? DISK_FULL : RAM_FULL;
        }
    }
    if (p->tap)
        p->tap(p->tap_ctx, 0, r, p->busy_start, reason);
    if (!f)
        drop(p, r, p->busy_end, reason);
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
    const track_t *line = &p->sender;
    int64_t end = p->busy_end;
    int cut = 0;
    for (size_t k = line->cur; !cut && k < line->n && line->seg[k].t0 < end; k++)
        if (line->seg[k].t0 > p->busy_start && !(line->seg[k].flags & SEG_UP)) {
            end = line->seg[k].t0;
            cut = 1;
        }
    if (end > p->horizon)
        return blocked(p, until);
    if (end > until)
        return end;
    p->busy_end = end;
    p->free_at = cut ? end * ONE : p->busy_free;
    finish(p, cut);
    return RETRY;
}

static int64_t begin_service(pipe_t *p, int64_t until)
{
    track_t *line = &p->sender;
    rec_t *oldest = NULL;
    for (uint32_t c = 0; c < p->cfg.classes; c++) {
        rec_t *r = front(p, c, FAR);
        if (r && (!oldest || r->t < oldest->t))
            oldest = r;
    }
    if (!oldest)
        return FAR; /* nothing waits */
    __int128 exact = oldest->t * ONE > p->free_at ? oldest->t * ONE : p->free_at;
    int64_t start, later = (int64_t)(exact >> 30);
    const seg_t *s;
    size_t k = line->cur;
    do {
        start = later;
        if (start >= p->horizon || !line->n)
            return blocked(p, until);
        k = in_force(line, k, start);
        s = &line->seg[k];
        if (start < s->t0)
            later = s->t0;
        else if (!(s->flags & SEG_UP) && s->flags & SEG_HOLD)
            later = k + 1 < line->n ? s[1].t0 : p->horizon;
    } while (later > start);
    if (start > until)
        return start;
    line->cur = k;
    if (!(s->flags & SEG_UP)) {
        drop(p, oldest, start, DOWN);
        unqueue(p, oldest->cls, oldest->len);
        return RETRY;
    }
    p->busy = 1;
    p->busy_cls = pick(p, start);
    p->busy_len = fifo_peek(p->store, &p->queue[p->busy_cls])->len;
    p->busy_seg = *s;
    p->busy_start = start;
    p->busy_free = (start > exact >> 30 ? start * ONE : exact) + (__int128)p->busy_len * s->byte_time;
    p->busy_end = (int64_t)((p->busy_free + ONE - 1) >> 30);
    return RETRY;
}

void pipe_advance(pipe_t *p, int64_t until)
{
    if (until > p->clock)
        p->clock = until;
    while (p->next_tx <= until)
        p->next_tx = p->busy ? end_service(p, until) : begin_service(p, until);
}

/* The chunk at the tail cannot be read any more: its frames are counted, not known one by one. */
static void lose_chunk(pipe_t *p)
{
    for (uint32_t c = 0; c < MAX_CLASSES; c++) {
        const count_t *n = &p->flight.tail->count[c];
        add(&p->st.drop[c], n->frames, n->bytes);
        add(&p->st.reason[DISK_ERROR], n->frames, n->bytes);
        add(&p->st.fly, -n->frames, -n->bytes);
    }
    fifo_skip(p->store, &p->flight);
}

/* Frames that are due, from one chunk; a frame that the receiver misses carries its reason. They stay until released. */
size_t pipe_gather(pipe_t *p, int64_t now, rec_t **out, size_t max)
{
    track_t *ear = &p->receiver;
    size_t n = 0;
    while (p->flight.tail && p->flight.tail->place == LOST && p->flight.tail->first <= now)
        lose_chunk(p);
    rec_t *r = p->st.fly.frames ? fifo_peek(p->store, &p->flight) : NULL;
    uint32_t at = p->flight.at;
    while (r && n < max && r->t <= now) {
        ear->cur = in_force(ear, ear->cur, r->t);
        const seg_t *s = ear->n ? &ear->seg[ear->cur] : NULL;
        r->reason = s && s->t0 <= r->t && !(s->flags & SEG_UP) ? RECEIVER_DOWN : DELIVERED;
        out[n++] = r;
        at += size_of(p, r->len);
        r = at < p->flight.tail->used ? (rec_t *)(p->flight.tail->data + at) : NULL;
    }
    return n;
}

void pipe_release(pipe_t *p, size_t n)
{
    for (; n; n--) {
        rec_t *r = fifo_peek(p->store, &p->flight);
        add(&p->st.fly, -1ull, -(uint64_t)r->len);
        if (!p->cfg.carry && !r->quiet)
            call_arrived(p);
        if (r->reason == DELIVERED) {
            add(&p->st.out[r->cls], 1, r->len);
            p->st.last_rx = r->t;
        } else {
            count_drop(p, r, r->reason);
        }
        p->flight.at += size_of(p, r->len);
    }
}

/* Outcomes up to `now`: drops of the sending side in order, then arrivals in order. */
size_t pipe_pop(pipe_t *p, int64_t now, rec_t *out, size_t max)
{
    size_t n = 0, k;
    rec_t *due[64], *d;
    pipe_advance(p, now);
    for (; n < max && (d = fifo_peek(p->store, &p->drops)); p->drops.at += rec_size(0))
        out[n++] = *d;
    while ((k = pipe_gather(p, now, due, max - n < 64 ? max - n : 64))) {
        for (size_t i = 0; i < k; i++)
            out[n++] = *due[i];
        pipe_release(p, k);
    }
    return n;
}

/* When the first of what has left comes out. */
static int64_t out_next(pipe_t *p)
{
    pipe_advance(p, p->clock);
    int64_t due = p->st.fly.frames ? fifo_due(p->store, &p->flight, p->clock) : FAR;
    return fifo_peek(p->store, &p->drops) && p->clock < due ? p->clock : due;
}

int64_t pipe_next(pipe_t *p)
{
    int64_t due = out_next(p);
    return due < p->next_tx ? due : p->next_tx;
}

/* No frame whose last bit leaves at `t` or later, while this segment holds, arrives earlier. */
static int64_t soonest(const seg_t *s, int64_t t) { return s->slope > -(1ll << 62) ? t + delay_at(s, t) : t; }

/* When the first frame that leaves at `from` or later can arrive, as far as the timeline tells. */
int64_t pipe_soonest(const pipe_t *p, int64_t from)
{
    const track_t *line = &p->sender;
    int64_t first = p->horizon;
    if (from >= p->horizon || !line->n || from < line->seg[0].t0)
        return from;
    if (p->busy && soonest(&p->busy_seg, from) < first)
        first = soonest(&p->busy_seg, from);
    for (size_t k = in_force(line, line->cur, from); k < line->n && line->seg[k].t0 < first; k++) {
        int64_t arrival = soonest(&line->seg[k], from > line->seg[k].t0 ? from : line->seg[k].t0);
        first = arrival < first ? arrival : first;
    }
    return first;
}

/* As `pipe_next`, for a caller who need not know of each frame when it leaves: what happens at the sending side is told
 * in time for what arrives, and happens when it was to. Half of the time that the first frame yet to leave takes at
 * least is left for its way to the disk and back. */
int64_t pipe_next_arrival(pipe_t *p)
{
    int64_t due = out_next(p), from = p->next_tx;
    if (from < due)
        from += (pipe_soonest(p, from) - from) / 2;
    return due < from ? due : from;
}

/* in = out + queued + in flight + dropped; what was dropped is also counted by reason. */
int pipe_balanced(pipe_t *p)
{
    const pipe_stats_t *s = &p->st;
    count_t rest = {-s->fly.frames, -s->fly.bytes}, dropped = {0, 0};
    for (uint32_t c = 0; c < p->cfg.classes; c++) {
        add(&rest, s->in[c].frames - s->out[c].frames - s->wait[c].frames - s->drop[c].frames,
            s->in[c].bytes - s->out[c].bytes - s->wait[c].bytes - s->drop[c].bytes);
        add(&dropped, s->drop[c].frames, s->drop[c].bytes);
    }
    for (int k = DELIVERED + 1; k < REASONS; k++)
        add(&dropped, -s->reason[k].frames, -s->reason[k].bytes);
    int ok = !(rest.frames | rest.bytes | dropped.frames | dropped.bytes);
    p->st.broken += !ok;
    return ok;
}

/* The link is gone: account for what is still in it. */
void pipe_abandon(pipe_t *p)
{
    for (uint32_t c = 0; c < p->cfg.classes; c++) {
        count_t *in = &p->st.in[c], *out = &p->st.out[c], *lost = &p->st.drop[c];
        add(&p->st.reason[LINK_GONE], in->frames - out->frames - lost->frames, in->bytes - out->bytes - lost->bytes);
        *lost = (count_t){in->frames - out->frames, in->bytes - out->bytes};
        p->st.wait[c] = (count_t){0, 0};
    }
    p->st.fly = (count_t){0, 0};
    p->waiting = 0;
    p->busy = 0;
    p->next_tx = FAR;
    clear(p);
}

/* Parameters in force at `now`. */
int pipe_at(pipe_t *p, int64_t now, seg_t *out, int64_t *delay)
{
    if (!p->sender.n || now < p->sender.seg[0].t0 || now >= p->horizon)
        return 0;
    *out = p->sender.seg[in_force(&p->sender, 0, now)];
    *delay = delay_at(out, now);
    return 1;
}

void pipe_stats(pipe_t *p, pipe_stats_t *out)
{
    pipe_balanced(p);
    *out = p->st;
}
