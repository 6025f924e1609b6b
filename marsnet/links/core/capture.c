/* pcapng (IETF draft-ietf-opsawg-pcapng): interface 0 sees a frame's first bit leave, interface 1 sees its last bit arrive;
 * epb_packetid joins the two, and the comment of a frame that was lost says why. */
#include "engine.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER (512u << 10)

static void put32(capture_t *c, uint32_t v)
{
    memcpy(c->buf + c->used, &v, sizeof v);
    c->used += sizeof v;
}

static void put_padded(capture_t *c, const void *data, size_t len)
{
    memcpy(c->buf + c->used, data, len);
    memset(c->buf + c->used + len, 0, -len & 3);
    c->used += (len + 3) & ~(size_t)3;
}

static void put_option(capture_t *c, uint16_t code, const void *data, size_t len)
{
    put32(c, code | (uint32_t)len << 16);
    put_padded(c, data, len);
}

static void end_block(capture_t *c, size_t start)
{
    uint32_t len = (uint32_t)(c->used - start) + 4;
    memcpy(c->buf + start + 4, &len, sizeof len);
    put32(c, len);
}

static void put_interface(capture_t *c, const char *name)
{
    size_t start = c->used;
    put32(c, 1);
    put32(c, 0);
    put32(c, 1); /* LINKTYPE_ETHERNET */
    put32(c, 0);
    put_option(c, 2, name, strlen(name));
    put_option(c, 9, "\x09", 1); /* nanoseconds */
    put32(c, 0);
    end_block(c, start);
}

capture_t *capture_new(store_t *store, int fd, int64_t offset, const char *tx_name, const char *rx_name)
{
    capture_t *c = calloc(1, sizeof *c);
    if (!c || !(c->buf = malloc(BUFFER))) {
        free(c);
        return NULL;
    }
    c->fd = fd;
    c->offset = offset;
    c->store = store;
    put32(c, 0x0a0d0d0a);
    put32(c, 0);
    put32(c, 0x1a2b3c4d);
    put32(c, 1); /* version 1.0 */
    put32(c, UINT32_MAX);
    put32(c, UINT32_MAX);
    end_block(c, 0);
    put_interface(c, tx_name);
    put_interface(c, rx_name);
    return c;
}

void capture_frame(capture_t *c, uint32_t side, const rec_t *r, const uint8_t *data, int64_t when, int reason)
{
    if (atomic_load(&c->failed)) {
        c->lost++;
        return;
    }
    if (c->used + r->len + 256 > BUFFER) {
        uint8_t *fresh = malloc(BUFFER);
        if (!fresh || store_append(c->store, c->fd, c->buf, c->used, &c->failed, NULL)) {
            free(fresh);
            c->lost++;
            return;
        }
        c->buf = fresh;
        c->used = 0;
    }
    uint64_t stamp = (uint64_t)(when + c->offset);
    size_t start = c->used;
    put32(c, 6);
    put32(c, 0);
    put32(c, side);
    put32(c, (uint32_t)(stamp >> 32));
    put32(c, (uint32_t)stamp);
    put32(c, r->len);
    put32(c, r->len);
    put_padded(c, data, r->len);
    if (reason != DELIVERED)
        put_option(c, 1, reason_name(reason), strlen(reason_name(reason)));
    put_option(c, 5, &r->id, sizeof r->id);
    put32(c, 0);
    end_block(c, start);
}

/* Write what is left and wait for it; not for the worker thread. Returns the errno of the first failed write. */
int capture_close(capture_t *c)
{
    sem_t done;
    sem_init(&done, 0, 0);
    if (!store_append(c->store, c->fd, c->buf, c->used, &c->failed, &done))
        while (sem_wait(&done))
            ;
    else
        free(c->buf);
    sem_destroy(&done);
    int error = atomic_load(&c->failed);
    close(c->fd);
    free(c);
    return error;
}
