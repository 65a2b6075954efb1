/* A request sent and the answer's first bytes received in one step, during which others have the interpreter.
 *
 * Owns nothing that outlives a call. A thread that gives the interpreter up gets it back from one that never waits
 * after 5 ms (sys.getswitchinterval), so it is given up once, not for each system call. The rules: no wait outlasts the
 * time limit; a signal that comes in the middle is handled in the middle; and since a descriptor is a number that the
 * system gives away again, the caller sees to it that nobody closes the socket meanwhile.
 */
#include "exchange.h"

#ifdef HAS_EXCHANGE

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#ifndef MSG_NOSIGNAL /* where a broken connection would raise a signal, Python ignores it */
#define MSG_NOSIGNAL 0
#endif

typedef enum { UNSTARTED, SENDING, AWAITING } Stage;
typedef enum { ANSWERED, STALE, LATE, FAILED, INTERRUPTED } End;

typedef struct {
    int socket;
    struct iovec parts[2]; /* what is left to send */
    double deadline;       /* by now() */
    char *room;
    size_t room_size;
    ssize_t received;
    Stage stage;
    int error;             /* errno, where it FAILED */
} Exchange;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* A signal that comes just before a wait, or that another thread gets, does not end it: so long at most does its handler
 * have to wait. */
#define LONGEST_WAIT_MILLISECONDS 500

/* Wait for one of these events; 0 when there was none for as long as there was time for, -1 with errno. */
static int wait_for(const Exchange *self, short events)
{
    double left = self->deadline - now();
    if (!(left > 0.0)) {
        return 0;
    }
    struct pollfd polled = {.fd = self->socket, .events = events};
    double milliseconds = ceil(1e3 * left);
    return poll(&polled, 1, milliseconds < LONGEST_WAIT_MILLISECONDS ? (int)milliseconds : LONGEST_WAIT_MILLISECONDS);
}

static void has_been_sent(Exchange *self, size_t sent)
{
    for (int part = 0; part < 2; part++) {
        size_t taken = sent < self->parts[part].iov_len ? sent : self->parts[part].iov_len;
        self->parts[part].iov_base = (char *)self->parts[part].iov_base + taken;
        self->parts[part].iov_len -= taken;
        sent -= taken;
    }
}

static End nothing_came(const Exchange *self)
{
    return now() < self->deadline ? INTERRUPTED : LATE;
}

static End failed(Exchange *self)
{
    if (errno == EINTR) {
        return INTERRUPTED;
    }
    self->error = errno;
    return FAILED;
}

/* Go on until it ends, without the interpreter. */
static End go_on(Exchange *self)
{
    if (self->stage == UNSTARTED) {
        struct pollfd polled = {.fd = self->socket, .events = POLLIN};
        int ready = poll(&polled, 1, 0);
        if (ready != 0) {
            return ready < 0 ? failed(self) : STALE;
        }
        self->stage = SENDING;
    }
    while (self->stage == SENDING) {
        struct msghdr message = {.msg_iov = self->parts, .msg_iovlen = 2};
        ssize_t sent = sendmsg(self->socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            has_been_sent(self, (size_t)sent);
            if (self->parts[0].iov_len + self->parts[1].iov_len == 0) {
                self->stage = AWAITING;
            }
            else if (!(now() < self->deadline)) { /* the server reads as fast as we write, and there is more */
                return LATE;
            }
        }
        else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            int ready = wait_for(self, POLLOUT);
            if (ready <= 0) {
                return ready < 0 ? failed(self) : nothing_came(self);
            }
        }
        else if (errno == EPIPE || errno == ECONNRESET) {
            /* A server may answer without having read all, and leave. */
            self->stage = AWAITING;
        }
        else {
            return failed(self);
        }
    }
    for (;;) {
        int ready = wait_for(self, POLLIN);
        if (ready <= 0) {
            return ready < 0 ? failed(self) : nothing_came(self);
        }
        self->received = recv(self->socket, self->room, self->room_size, MSG_DONTWAIT);
        if (self->received >= 0) {
            return ANSWERED;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            return failed(self);
        }
    }
}

static PyObject *carry_out(Exchange *self)
{
    for (;;) {
        End end;
        Py_BEGIN_ALLOW_THREADS
        end = go_on(self);
        Py_END_ALLOW_THREADS
        switch (end) {
        case ANSWERED:
            return PyBytes_FromStringAndSize(self->room, self->received);
        case STALE:
            Py_RETURN_NONE;
        case LATE:
            PyErr_SetString(PyExc_TimeoutError, "timed out");
            return NULL;
        case FAILED:
            errno = self->error;
            return PyErr_SetFromErrno(PyExc_OSError);
        case INTERRUPTED:
            if (PyErr_CheckSignals() < 0) {
                return NULL;
            }
        }
    }
}

/* exchange(socket, head, body, seconds, /) */
PyObject *exchange(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 4 || !PyBytes_CheckExact(arguments[1]) || !PyBytes_CheckExact(arguments[2])) {
        PyErr_SetString(PyExc_TypeError, "exchange(socket, head, body, seconds, /): a number, bytes, bytes, a number");
        return NULL;
    }
    char room[8192]; /* more than answers are wont to have */
    Exchange self = {
        .socket = PyObject_AsFileDescriptor(arguments[0]),
        .parts = {{PyBytes_AS_STRING(arguments[1]), (size_t)PyBytes_GET_SIZE(arguments[1])},
                  {PyBytes_AS_STRING(arguments[2]), (size_t)PyBytes_GET_SIZE(arguments[2])}},
        .room = room,
        .room_size = sizeof(room),
    };
    if (self.socket < 0) {
        return NULL;
    }
    double seconds = PyFloat_AsDouble(arguments[3]);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    self.deadline = now() + seconds;
    return carry_out(&self);
}

#endif
