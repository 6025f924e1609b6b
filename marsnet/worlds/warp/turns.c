/* Loaded into QEMU before its own libraries: its main loop and its guest take turns.
 *
 * QEMU's main loop, a thread of its own, sets the guest's clock forward when the guest's processor idles. It also looks
 * at other moments, which are the host's; and where it looks just when the processor has halted and the processor's
 * last instructions are not yet added to the clock, it reckons the jump from a clock that is late by them (QEMU 7.2:
 * icount_start_warp_timer beside rr_cpu_thread_fn). Two runs of the same guest then part by some nanoseconds.
 *
 * So the main loop gets the events that it waits for only while the processor waits to be woken. Who wakes it ends the
 * main loop's turn, which at its next wait stands until the processor waits again.
 *
 * QEMU also lets the processor compute only until the next timer of the host's clock is due, and not at all from then
 * on until the main loop has seen to it (icount_get_limit). For the processor's thread the host's clock stands still.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What QEMU calls the thread of its processors (-name debug-threads=on), as far as the kernel keeps a name. */
#define PROCESSOR "ALL CPUs/TCG"

/* The condition that the processor waits on when it idles; a machine that is still being made has none. */
static _Atomic(pthread_cond_t *) rest;
/* 1 while the processor waits on it and nobody has woken it. */
static atomic_int resting;

static int (*next_wait)(pthread_cond_t *, pthread_mutex_t *);
static int (*next_signal)(pthread_cond_t *);
static int (*next_broadcast)(pthread_cond_t *);
/* Other libraries ask for the time before this one is ready. */
static int (*next_time)(clockid_t, struct timespec *);
static int (*next_poll)(struct pollfd *, nfds_t, int);
static int (*next_ppoll)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);

__attribute__((constructor)) static void find_next(void)
{
    /* The C library keeps an older form of these under the same names. */
    next_wait = dlvsym(RTLD_NEXT, "pthread_cond_wait", "GLIBC_2.3.2");
    next_signal = dlvsym(RTLD_NEXT, "pthread_cond_signal", "GLIBC_2.3.2");
    next_broadcast = dlvsym(RTLD_NEXT, "pthread_cond_broadcast", "GLIBC_2.3.2");
    next_time = dlsym(RTLD_NEXT, "clock_gettime");
    next_poll = dlsym(RTLD_NEXT, "poll");
    next_ppoll = dlsym(RTLD_NEXT, "ppoll");
}

/* 1 on the processor's thread, -1 on others, 0 before their first wait; the processor's is before it computes. */
static __thread int processor;

static void find_out(void)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    processor = strcmp(name, PROCESSOR) == 0 ? 1 : -1;
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    if (!processor)
        find_out();
    if (processor < 0)
        return next_wait(condition, mutex);
    atomic_store(&rest, condition);
    atomic_store(&resting, 1);
    syscall(SYS_futex, &resting, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    int result = next_wait(condition, mutex);
    atomic_store(&resting, 0);
    return result;
}

int pthread_cond_signal(pthread_cond_t *condition)
{
    if (condition == atomic_load(&rest))
        atomic_store(&resting, 0);
    return next_signal(condition);
}

int pthread_cond_broadcast(pthread_cond_t *condition)
{
    if (condition == atomic_load(&rest))
        atomic_store(&resting, 0);
    return next_broadcast(condition);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (clock != CLOCK_MONOTONIC || processor <= 0)
        return next_time ? next_time(clock, time) : (int)syscall(SYS_clock_gettime, clock, time);
    *time = (struct timespec){0};
    return 0;
}

static int at_its_turn(int result)
{
    int error = errno;
    if (gettid() == getpid() && atomic_load(&rest))
        while (!atomic_load(&resting))
            syscall(SYS_futex, &resting, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    errno = error;
    return result;
}

int poll(struct pollfd *files, nfds_t count, int timeout)
{
    return at_its_turn(next_poll(files, count, timeout));
}

int ppoll(struct pollfd *files, nfds_t count, const struct timespec *timeout, const sigset_t *signals)
{
    return at_its_turn(next_ppoll(files, count, timeout, signals));
}
