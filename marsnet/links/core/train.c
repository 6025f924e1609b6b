/* Many frames at a time: a world on virtual time need not wake for a frame whose receiver would do nothing yet.
 *
 * Frames are pushed as quiet or not. `pipe_alarm` is the next instant at which something that is not quiet may have
 * arrived; quiet frames are taken along then. What becomes of each frame, and when, is what it is for frames that are
 * pushed and polled one by one. */
#include "pipeline.h"
#include <stdlib.h>

static void ring_put(pipe_t *p, ring_t *r, int64_t value)
{
    if (r->count == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 64;
        int64_t *more = malloc(cap * sizeof *more);
        if (!more) {
            p->deafened = 1;
            return;
        }
        for (size_t i = 0; i < r->count; i++)
            more[i] = r->at[(r->first + i) % r->cap];
        free(r->at);
        r->at = more;
        r->cap = cap;
        r->first = 0;
    }
    r->at[(r->first + r->count++) % r->cap] = value;
}

static void ring_pop(ring_t *r)
{
    if (r->count) {
        r->first = (r->first + 1) % r->cap;
        r->count--;
    }
}

void call_queued(pipe_t *p, uint32_t cls, uint32_t len)
{
    p->came[cls] += len;
    if (!p->quiet)
        ring_put(p, &p->calls[cls], p->came[cls]);
}

void call_left(pipe_t *p, uint32_t cls, uint32_t len)
{
    ring_t *r = &p->calls[cls];
    p->left[cls] += len;
    while (r->count && r->at[r->first] <= p->left[cls])
        ring_pop(r);
}

void call_flies(pipe_t *p, int64_t deadline) { ring_put(p, &p->calling, deadline); }
void call_arrived(pipe_t *p) { ring_pop(&p->calling); }

void calls_free(pipe_t *p)
{
    for (int c = 0; c < MAX_CLASSES; c++)
        free(p->calls[c].at);
    free(p->calling.at);
}

/* Whether a frame that is sent later than in segment `k` may arrive earlier, should this one be lost. */
static int overtaken(const track_t *line, size_t k, int64_t arrival)
{
    while (++k < line->n && line->seg[k].t0 < arrival)
        if (line->seg[k].t0 + delay_at(&line->seg[k], line->seg[k].t0) < arrival)
            return 1;
    return 0;
}

/* No frame that ends with so many more octets of a class can arrive earlier: other classes and outages only delay it,
 * but for one that cuts the frame in service short. */
static int64_t earliest(const pipe_t *p, uint32_t cls, int64_t octets)
{
    int64_t base = p->next_tx;
    if (p->busy) {
        for (size_t k = p->sender.cur; k < p->sender.n && p->sender.seg[k].t0 < p->busy_end; k++)
            if (p->sender.seg[k].t0 > p->busy_start && !(p->sender.seg[k].flags & SEG_UP))
                return p->sender.seg[k].t0;
        base = (int64_t)(p->busy_free >> 30);
        if (p->busy_cls == cls)
            octets -= p->came[cls] - p->left[cls] - (int64_t)waiting(p, cls).bytes;
        if (octets <= 0) {
            int64_t arrival = p->busy_end + delay_at(&p->busy_seg, p->busy_end);
            return overtaken(&p->sender, p->sender.cur, arrival) ? p->busy_end : arrival;
        }
    }
    const track_t *line = &p->sender;
    if (base >= p->horizon || !line->n || base < line->seg[0].t0)
        return p->next_tx;
    size_t k = in_force(line, line->cur, base);
    int64_t until = k + 1 < line->n ? line->seg[k + 1].t0 : p->horizon;
    unsigned __int128 service = ((unsigned __int128)octets * line->seg[k].byte_time) >> 30;
    if (service > (unsigned __int128)(until - base))
        return until;
    int64_t end = base + (int64_t)service, arrival = end + delay_at(&line->seg[k], end);
    int others = p->busy && p->busy_cls != cls;
    for (uint32_t c = 0; c < p->cfg.classes; c++)
        others |= c != cls && waiting(p, c).frames;
    return (others && arrival > until) || overtaken(line, k, arrival) ? until : arrival;
}

int64_t pipe_alarm(pipe_t *p)
{
    if (p->deafened)
        return pipe_next(p);
    pipe_advance(p, p->clock);
    int64_t due = p->calling.count ? p->calling.at[p->calling.first] : FAR;
    for (uint32_t c = 0; c < p->cfg.classes; c++)
        if (p->calls[c].count) {
            int64_t at = earliest(p, c, p->calls[c].at[p->calls[c].first] - p->left[c]);
            if (at <= p->clock)
                at = p->clock + 1;
            if (at < due)
                due = at;
        }
    return due;
}

/* Trains of frames of one size arrive at the transmit queues, one after another. Train `id + i` has frames
 * (id + i) << 32 and on. */
void pipe_push_trains(pipe_t *p, size_t n, const uint32_t *len, const uint32_t *count, const uint8_t *cls,
                      const uint8_t *quiet, int64_t now, uint64_t id)
{
    for (size_t i = 0; i < n; i++) {
        p->quiet = quiet[i];
        for (uint32_t k = 0; k < count[i]; k++)
            pipe_push(p, NULL, len[i], cls[i], now, (id + i) << 32 | k);
    }
    p->quiet = 0;
}

/* Frames that have ended by `now`, in runs of one fate: the first one's id, then twice their number, plus one when they
 * arrived as they were sent. */
size_t pipe_take(pipe_t *p, int64_t now, uint64_t *runs, size_t max)
{
    rec_t ended[64];
    size_t n = 0, got;
    do {
        got = pipe_pop(p, now, ended, max - n < 64 ? max - n : 64);
        for (size_t i = 0; i < got; i++) {
            uint64_t well = ended[i].reason == DELIVERED && !ended[i].corrupt, *last = runs + 2 * n - 2;
            if (n && (last[1] & 1) == well && last[0] + (last[1] >> 1) == ended[i].id) {
                last[1] += 2;
            } else {
                runs[2 * n] = ended[i].id;
                runs[2 * n++ + 1] = 2 + well;
            }
        }
    } while (got && n < max);
    return n;
}
