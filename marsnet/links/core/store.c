#define _GNU_SOURCE
#include "store.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define SPARES 16 /* free chunks kept mapped */

void store_init(store_t *s, uint64_t ram_bytes)
{
    memset(s, 0, sizeof *s);
    s->ram_limit = ram_bytes / CHUNK_BYTES;
    s->file = s->event = -1;
    s->lead = 10000000000; /* shared disks have been seen to stall for two seconds */
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
}

static uint8_t *ram_take(store_t *s)
{
    uint8_t *data = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return NULL;
    if (++s->st.ram_chunks > s->st.peak_ram_chunks)
        s->st.peak_ram_chunks = s->st.ram_chunks;
    return data;
}

static void ram_give(store_t *s, uint8_t *data)
{
    munmap(data, CHUNK_BYTES);
    s->st.ram_chunks--;
}

static chunk_t *chunk_take(store_t *s)
{
    chunk_t *c = s->spare;
    if (c) {
        s->spare = c->next;
        s->spares--;
    } else if (s->st.ram_chunks >= s->ram_limit || !(c = calloc(1, sizeof *c))) {
        return NULL;
    } else if (!(c->data = ram_take(s))) {
        free(c);
        return NULL;
    }
    c->next = NULL;
    c->used = 0;
    c->place = IN_RAM;
    c->slot = -1;
    c->keep = c->orphan = 0;
    memset(c->count, 0, sizeof c->count);
    return c;
}

static void slot_give(store_t *s, chunk_t *c)
{
    if (c->slot < 0)
        return;
    if (s->free_count == s->free_cap) {
        size_t cap = s->free_cap ? 2 * s->free_cap : 64;
        int64_t *more = realloc(s->free_slots, cap * sizeof *more);
        if (!more)
            return; /* the slot is lost to this run, nothing else */
        s->free_slots = more;
        s->free_cap = cap;
    }
    s->free_slots[s->free_count++] = c->slot;
    c->slot = -1;
}

static void chunk_give(store_t *s, chunk_t *c)
{
    slot_give(s, c);
    if (c->data && s->spares < SPARES) {
        c->next = s->spare;
        s->spare = c;
        s->spares++;
        return;
    }
    if (c->data)
        ram_give(s, c->data);
    free(c);
}

static void submit(store_t *s, job_t *j)
{
    pthread_mutex_lock(&s->lock);
    if (!s->todo) {
        s->todo = s->todo_last = j;
    } else if (!j->write) { /* a frame may be waiting for what is read */
        j->next = s->todo;
        s->todo = j;
    } else {
        s->todo_last->next = j;
        s->todo_last = j;
    }
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

static int transfer(const job_t *j)
{
    for (size_t done = 0; done < j->len;) {
        ssize_t n = !j->write      ? pread(j->fd, j->data + done, j->len - done, j->at + (int64_t)done)
                    : j->at < 0 ? write(j->fd, j->data + done, j->len - done)
                                : pwrite(j->fd, j->data + done, j->len - done, j->at + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : j->write ? ENOSPC : EIO;
        done += (size_t)n;
    }
    return 0;
}

static void *disk_thread(void *arg)
{
    store_t *s = arg;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->todo && !s->stop)
            pthread_cond_wait(&s->wake, &s->lock);
        job_t *j = s->todo;
        if (!j)
            break;
        s->todo = j->next;
        pthread_mutex_unlock(&s->lock);
        j->error = transfer(j);
        if (j->chunk) {
            pthread_mutex_lock(&s->lock);
            j->next = s->done;
            s->done = j;
            eventfd_write(s->event, 1);
            continue;
        }
        if (j->error)
            atomic_store(j->failed, j->error);
        if (j->done)
            sem_post(j->done);
        free(j->data);
        free(j);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Start the disk thread; with a directory, full chunks may be spilled there. Returns 0 or -errno. */
int store_start(store_t *s, const char *spill_dir, int event)
{
    s->event = event;
    if (spill_dir && *spill_dir) {
        s->file = open(spill_dir, O_TMPFILE | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);
        if (s->file < 0) /* file systems in memory know no direct transfer */
            s->file = open(spill_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (s->file < 0)
            return -errno;
    }
    int error = pthread_create(&s->thread, NULL, disk_thread, s);
    s->running = !error;
    return -error;
}

void store_free(store_t *s)
{
    if (s->running) {
        pthread_mutex_lock(&s->lock);
        s->stop = 1;
        pthread_cond_signal(&s->wake);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
        store_collect(s);
    }
    for (chunk_t *c = s->spare, *next; c; c = next) {
        next = c->next;
        ram_give(s, c->data);
        free(c);
    }
    if (s->file >= 0)
        close(s->file);
    free(s->free_slots);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
}

/* Append to a file off the worker's path; takes `data`. */
int store_append(store_t *s, int fd, uint8_t *data, size_t len, _Atomic int *failed, sem_t *done)
{
    job_t *j = calloc(1, sizeof *j);
    if (!j)
        return -ENOMEM;
    *j = (job_t){.write = 1, .fd = fd, .data = data, .at = -1, .len = len, .failed = failed, .done = done};
    submit(s, j);
    return 0;
}

/* Take back what the disk thread has done. Returns nonzero when a transfer failed. */
int store_collect(store_t *s)
{
    int failed = 0;
    pthread_mutex_lock(&s->lock);
    job_t *j = s->done;
    s->done = NULL;
    pthread_mutex_unlock(&s->lock);
    for (job_t *next; j; j = next) {
        chunk_t *c = j->chunk;
        next = j->next;
        failed |= j->error;
        if (j->write) {
            s->st.writing--;
            s->st.last_errno = j->error;
            s->st.write_errors += j->error != 0;
            s->st.written += !j->error;
        } else {
            s->st.read_errors += j->error != 0;
            s->st.read += !j->error;
            s->st.disk_chunks--;
        }
        if (j->write && !j->error && !c->keep && !c->orphan) {
            c->place = ON_DISK;
            s->st.disk_chunks++;
            ram_give(s, c->data);
            c->data = NULL;
        } else {
            c->place = !j->write && j->error ? LOST : IN_RAM;
            slot_give(s, c);
        }
        if (c->orphan)
            chunk_give(s, c);
        free(j);
    }
    return failed;
}

static int start_job(store_t *s, chunk_t *c, int write)
{
    job_t *j = calloc(1, sizeof *j);
    if (!j)
        return 0;
    *j = (job_t){.chunk = c, .write = write, .fd = s->file, .data = c->data, .at = c->slot * (int64_t)CHUNK_BYTES, .len = CHUNK_BYTES};
    c->place = write ? WRITING : READING;
    c->keep = 0;
    submit(s, j);
    return 1;
}

/* A chunk of frames in flight that has just filled up is the one needed last: it goes once half of the budget is used. */
static void consider_spill(store_t *s, chunk_t *c)
{
    if (s->file < 0 || (s->st.last_errno && s->st.writing) || s->st.ram_chunks - s->spares < s->ram_limit / 2)
        return;
    c->slot = s->free_count ? s->free_slots[--s->free_count] : s->slots++;
    if (start_job(s, c, 1))
        s->st.writing++;
    else
        slot_give(s, c);
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
    rec_t *r = (rec_t *)(f->head->data + f->head->used);
    f->head->used += size;
    return r;
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
    if (c->place == ON_DISK)
        s->st.disk_chunks--;
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

void fifo_pop(fifo_t *f, uint32_t size) { f->at += size; }

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
        if (!near && s->st.ram_chunks - s->spares >= s->ram_limit - s->ram_limit / 4)
            return FAR; /* asked again when the chunks before it have gone */
        if (c->place == WRITING) {
            c->keep = 1;
            continue;
        }
        chunk_t *spare = c->data ? NULL : s->spare;
        if (spare) {
            s->spare = spare->next;
            s->spares--;
            c->data = spare->data;
            free(spare);
        }
        if (!c->data && !(c->data = ram_take(s)))
            return FAR;
        if (!start_job(s, c, 0))
            return FAR;
    }
}
