#define _GNU_SOURCE
#include "store.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

void store_init(store_t *s, uint64_t ram_bytes, int file, int done, int alarm)
{
    pthread_mutexattr_t inherit; /* whoever holds the lock runs at the priority of the worker that waits for it */
    memset(s, 0, sizeof *s);
    s->ram_limit = ram_bytes / CHUNK_BYTES;
    s->lead = 10000000000; /* shared disks have been seen to stall for two seconds */
    s->file = file;
    s->done = done;
    s->alarm = alarm;
    pthread_mutexattr_init(&inherit);
    pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&s->lock, &inherit);
    pthread_cond_init(&s->wake, NULL);
}

static uint64_t chunks_in_use(const store_t *s) { return s->st.ram_chunks - s->spares; }

static int ram_take(store_t *s, chunk_t *c)
{
    if (s->spares) {
        c->data = s->spare[--s->spares];
        return 1;
    }
    c->data = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (c->data == MAP_FAILED)
        return c->data = NULL, 0;
    if (++s->st.ram_chunks > s->st.peak_ram_chunks)
        s->st.peak_ram_chunks = s->st.ram_chunks;
    return 1;
}

static void ram_give(store_t *s, chunk_t *c)
{
    if (s->spares < SPARES) {
        s->spare[s->spares++] = c->data;
    } else {
        munmap(c->data, CHUNK_BYTES);
        s->st.ram_chunks--;
    }
    c->data = NULL;
}

static chunk_t *chunk_take(store_t *s)
{
    chunk_t *c = chunks_in_use(s) < s->ram_limit ? calloc(1, sizeof *c) : NULL;
    if (c && !ram_take(s, c)) {
        free(c);
        return NULL;
    }
    if (c)
        c->slot = -1;
    return c;
}

static void slot_give(store_t *s, chunk_t *c)
{
    chunk_t *node = c->slot < 0 ? NULL : malloc(sizeof *node);
    if (node) { /* else the slot is lost to this run, nothing more */
        *node = (chunk_t){.slot = c->slot, .next = s->free_slots};
        s->free_slots = node;
    }
    c->slot = -1;
}

static void chunk_give(store_t *s, chunk_t *c)
{
    slot_give(s, c);
    if (c->data)
        ram_give(s, c);
    free(c);
}

static void submit(store_t *s, chunk_t *c, enum chunk_place what)
{
    int w = what == WRITING;
    c->place = what;
    c->keep = 0;
    c->job = NULL;
    if (s->todo[w])
        s->last[w]->job = c;
    else
        s->todo[w] = c;
    s->last[w] = c;
    pthread_cond_signal(&s->wake);
}

static int transfer(int file, const chunk_t *c)
{
    for (size_t done = 0; done < CHUNK_BYTES;) {
        int64_t at = c->slot * (int64_t)CHUNK_BYTES + (int64_t)done;
        ssize_t n = c->place == WRITING ? pwrite(file, c->data + done, CHUNK_BYTES - done, at)
                                        : pread(file, c->data + done, CHUNK_BYTES - done, at);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return n < 0 ? errno : c->place == WRITING ? ENOSPC : EIO;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static void transferred(store_t *s, chunk_t *c, int error)
{
    if (c->place == WRITING) {
        s->st.writing--;
        s->st.last_errno = error;
        s->st.write_errors += error != 0;
        s->st.written += !error;
        c->place = error || c->keep || c->orphan ? IN_RAM : ON_DISK;
        if (c->place == ON_DISK) {
            s->st.disk_chunks++;
            ram_give(s, c);
        }
    } else {
        s->st.disk_chunks--;
        s->st.read_errors += error != 0;
        s->st.read += !error;
        c->place = error ? LOST : IN_RAM;
    }
    if (c->place != ON_DISK)
        slot_give(s, c);
    if (c->orphan)
        chunk_give(s, c);
    eventfd_write(s->done, 1);
    if (error)
        eventfd_write(s->alarm, 1);
}

/* The disk thread: reads come first, a frame may be waiting for them. */
void store_run(store_t *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        int w = !s->todo[0];
        chunk_t *c = s->todo[w];
        if (!c) {
            pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        s->todo[w] = c->job;
        pthread_mutex_unlock(&s->lock);
        int error = transfer(s->file, c);
        pthread_mutex_lock(&s->lock);
        transferred(s, c, error);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Once the disk thread has ended and every FIFO is empty. */
void store_free(store_t *s)
{
    for (int w = 0; w < 2; w++)
        for (chunk_t *c; (c = s->todo[w]); chunk_give(s, c))
            s->todo[w] = c->job;
    for (chunk_t *c; (c = s->free_slots); free(c))
        s->free_slots = c->next;
    while (s->spares)
        munmap(s->spare[--s->spares], CHUNK_BYTES);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
}

/* A chunk of frames in flight that has just filled up is the one needed last: it goes once half of the budget is used.
 * After a failure one chunk at a time finds out whether the disk works again. */
static void consider_spill(store_t *s, chunk_t *c)
{
    if (s->file < 0 || (s->st.last_errno && s->st.writing) || chunks_in_use(s) < s->ram_limit / 2)
        return;
    chunk_t *slot = s->free_slots;
    if (slot) {
        s->free_slots = slot->next;
        c->slot = slot->slot;
        free(slot);
    } else {
        c->slot = s->slots++;
    }
    s->st.writing++;
    submit(s, c, WRITING);
}

/* Room for a record of `size` bytes at the head, its header not yet filled in; NULL when the budget is used up. */
rec_t *fifo_put(store_t *s, fifo_t *f, uint32_t size, int64_t t, int spill)
{
    if (f->tail && f->tail == f->head && f->at == f->head->used) {
        f->at = f->head->used = 0;
        memset(f->head->count, 0, sizeof f->head->count);
    }
    if (!f->head || f->head->used + size > CHUNK_BYTES) {
        chunk_t *c = chunk_take(s);
        if (!c)
            return NULL;
        if (f->head) {
            f->head->next = c;
            if (spill)
                consider_spill(s, f->head);
        } else {
            f->tail = c;
            f->at = 0;
        }
        f->head = c;
    }
    if (!f->head->used)
        f->head->first = t;
    f->head->used += size;
    return (rec_t *)(f->head->data + f->head->used - size);
}

/* Leave the chunk at the tail. */
void fifo_skip(store_t *s, fifo_t *f)
{
    chunk_t *c = f->tail;
    f->tail = c->next;
    f->at = 0;
    if (f->fetch == c)
        f->fetch = c->next;
    if (f->head == c)
        f->head = NULL;
    s->st.disk_chunks -= c->place == ON_DISK;
    if (c->place == WRITING || c->place == READING)
        c->orphan = 1;
    else
        chunk_give(s, c);
}

/* The oldest record; NULL when there is none, or when it is not in RAM. */
rec_t *fifo_peek(store_t *s, fifo_t *f)
{
    while (f->tail && f->at == f->tail->used && f->tail != f->head)
        fifo_skip(s, f);
    if (!f->tail || f->at == f->tail->used || (f->tail->place != IN_RAM && f->tail->place != WRITING))
        return NULL;
    return (rec_t *)(f->tail->data + f->at);
}

void fifo_clear(store_t *s, fifo_t *f)
{
    while (f->tail)
        fifo_skip(s, f);
}

/* Time of the oldest record. While that is being read from disk and late, FAR: the end of the transfer wakes the worker. */
int64_t fifo_due(store_t *s, fifo_t *f, int64_t now)
{
    rec_t *r = fifo_peek(s, f);
    if (r)
        return r->t;
    if (!f->tail || f->at == f->tail->used)
        return FAR;
    return f->tail->place == LOST || f->tail->first > now ? f->tail->first : FAR;
}

/* Bring back what is due within the lead. Returns when to call again. */
int64_t fifo_fetch(store_t *s, fifo_t *f, int64_t now)
{
    if (s->file < 0 || !f->tail)
        return FAR;
    for (chunk_t *c = f->fetch ? f->fetch : f->tail;; c = c->next) {
        f->fetch = c;
        if (c == f->head)
            return FAR;
        if (c->place != WRITING && c->place != ON_DISK)
            continue;
        if (c->first - s->lead > now)
            return c->first - s->lead;
        int near = c == f->tail || c == f->tail->next;
        if (!near && chunks_in_use(s) >= s->ram_limit - s->ram_limit / 4)
            return FAR; /* asked again when the chunks before it have gone */
        if (c->place == WRITING)
            c->keep = 1;
        else if (ram_take(s, c))
            submit(s, c, READING);
        else
            return FAR;
    }
}
