/* What every routing decision spends its time in: the search over the contact graph, the projected arrival on a route,
   and the volume of its contacts. The meaning of all of it is told where Python calls it: search.py, ledger.py, graph.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>

/* VERSION goes up when the arguments of a function do; native.py compares it. */
enum { VERSION = 2, PRIORITIES = 4, FAR = INT_MAX / 2 };

/* What leaves at t, from `start` on and until the next line starts, arrives at base + slope * t. */
typedef struct {
    double start, base, slope;
} line_t;

/* The compact half of a Slot: a contact and the volume booked on it, for every priority with all higher ones. */
typedef struct {
    PyObject_HEAD
    double start, stop, pace;
    line_t light;
    line_t *lines; /* when more than one covers the contact */
    Py_ssize_t count;
    double free[PRIORITIES], pending[PRIORITIES], spent[PRIORITIES];
    PyObject *contact, *bookings;
    int source, target;
    char down;
} cell_t;

static PyTypeObject cell_type, net_type;

static inline double arrival(const cell_t *cell, double time)
{
    const line_t *line = &cell->light;
    if (cell->lines) {
        Py_ssize_t low = 1, high = cell->count;
        while (low < high) {
            Py_ssize_t middle = (low + high) / 2;
            if (cell->lines[middle].start <= time)
                low = middle + 1;
            else
                high = middle;
        }
        line = &cell->lines[low - 1];
    }
    return line->base + line->slope * time;
}

static int cell_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((cell_t *)self)->contact);
    Py_VISIT(((cell_t *)self)->bookings);
    return 0;
}

static int cell_clear(PyObject *self)
{
    Py_CLEAR(((cell_t *)self)->contact);
    Py_CLEAR(((cell_t *)self)->bookings);
    return 0;
}

static void cell_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    cell_clear(self);
    PyMem_Free(((cell_t *)self)->lines);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *cell_arrival(PyObject *self, PyObject *time)
{
    double at = PyFloat_AsDouble(time);
    return at == -1.0 && PyErr_Occurred() ? NULL : PyFloat_FromDouble(arrival((cell_t *)self, at));
}

/* The counters by priority: `closure` is their place in the structure. */
static PyObject *cell_levels(PyObject *self, void *closure)
{
    const double *level = (double *)((char *)self + (size_t)closure);
    return Py_BuildValue("(dddd)", level[0], level[1], level[2], level[3]);
}

static int cell_set_levels(PyObject *self, PyObject *value, void *closure)
{
    double *level = (double *)((char *)self + (size_t)closure);
    if (value && PyTuple_Check(value))
        return PyArg_ParseTuple(value, "dddd", level, level + 1, level + 2, level + 3) ? 0 : -1;
    PyErr_SetString(PyExc_TypeError, "a tuple of four numbers is needed");
    return -1;
}

static PyObject *cell_light(PyObject *self, void *Py_UNUSED(closure))
{
    const cell_t *cell = (cell_t *)self;
    const line_t *line = cell->lines ? cell->lines : &cell->light;
    PyObject *lines = PyTuple_New(cell->lines ? cell->count : 1);
    for (Py_ssize_t i = 0; lines && i < PyTuple_GET_SIZE(lines); i++) {
        PyObject *item = Py_BuildValue("(ddd)", line[i].start, line[i].base, line[i].slope);
        if (item)
            PyTuple_SET_ITEM(lines, i, item);
        else
            Py_CLEAR(lines);
    }
    return lines;
}

static int cell_set_light(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    cell_t *cell = (cell_t *)self;
    Py_ssize_t count = value && PyTuple_Check(value) ? PyTuple_GET_SIZE(value) : 0;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!PyTuple_Check(PyTuple_GET_ITEM(value, i)))
            count = 0;
    if (!count) {
        PyErr_SetString(PyExc_TypeError, "a tuple of (start, base, slope) is needed");
        return -1;
    }
    line_t *lines = PyMem_New(line_t, count);
    if (!lines) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(value, i), "ddd", &lines[i].start, &lines[i].base, &lines[i].slope)) {
            PyMem_Free(lines);
            return -1;
        }
    PyMem_Free(cell->lines);
    cell->light = lines[0];
    cell->lines = count > 1 ? lines : NULL;
    cell->count = count;
    if (count == 1)
        PyMem_Free(lines);
    return 0;
}

static PyMemberDef cell_members[] = {
    {"source", T_INT, offsetof(cell_t, source), 0, NULL}, {"target", T_INT, offsetof(cell_t, target), 0, NULL},
    {"start", T_DOUBLE, offsetof(cell_t, start), 0, NULL}, {"stop", T_DOUBLE, offsetof(cell_t, stop), 0, NULL},
    {"pace", T_DOUBLE, offsetof(cell_t, pace), 0, NULL},   {"down", T_BOOL, offsetof(cell_t, down), 0, NULL},
    {"contact", T_OBJECT_EX, offsetof(cell_t, contact), 0, NULL},
    {"bookings", T_OBJECT_EX, offsetof(cell_t, bookings), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyGetSetDef cell_getset[] = {
    {"free", cell_levels, cell_set_levels, NULL, (void *)offsetof(cell_t, free)},
    {"pending", cell_levels, cell_set_levels, NULL, (void *)offsetof(cell_t, pending)},
    {"spent", cell_levels, cell_set_levels, NULL, (void *)offsetof(cell_t, spent)},
    {"light", cell_light, cell_set_light, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMethodDef cell_methods[] = {
    {"arrival", cell_arrival, METH_O, "When what leaves at a time has arrived, margin included."},
    {NULL, NULL, 0, NULL},
};
static PyTypeObject cell_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "marsnet.dtn.routing._kernel.Cell",
    .tp_basicsize = sizeof(cell_t),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_traverse = cell_traverse,
    .tp_clear = cell_clear,
    .tp_dealloc = cell_dealloc,
    .tp_members = cell_members,
    .tp_getset = cell_getset,
    .tp_methods = cell_methods,
};

/* Contacts that follow one another. */
typedef struct {
    int target;
    Py_ssize_t count;
    double *ends;
    cell_t **cells;
} lane_t;

/* A way to a node. Its serial number is also the place of its contact and its predecessor in `steps`. */
typedef struct {
    double arrival;
    int hops, serial, node;
} label_t;

typedef struct {
    cell_t *cell;
    int before;
} step_t;

typedef struct {
    PyObject_HEAD
    int nodes;
    lane_t **lanes; /* by node, ended by a lane of no contacts */
    int *settled;
    label_t *reached; /* the best label of each node so far */
    label_t *heap;
    step_t *steps;
    int room;
} net_t;

static void net_dealloc(PyObject *self)
{
    net_t *net = (net_t *)self;
    for (int node = 0; net->lanes && node < net->nodes; node++) {
        for (lane_t *lane = net->lanes[node]; lane && lane->count; lane++) {
            for (Py_ssize_t i = 0; lane->cells && i < lane->count; i++)
                Py_XDECREF(lane->cells[i]);
            PyMem_Free(lane->cells);
            PyMem_Free(lane->ends);
        }
        PyMem_Free(net->lanes[node]);
    }
    PyMem_Free(net->lanes);
    PyMem_Free(net->settled);
    PyMem_Free(net->reached);
    PyMem_Free(net->heap);
    PyMem_Free(net->steps);
    Py_TYPE(self)->tp_free(self);
}

/* One lane from (target, ends, slots). */
static int fill_lane(lane_t *lane, PyObject *item, int nodes)
{
    int target;
    PyObject *ends, *cells;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "a lane is (target, ends, slots)");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "iO!O!", &target, &PyList_Type, &ends, &PyList_Type, &cells))
        return -1;
    Py_ssize_t count = PyList_GET_SIZE(cells);
    if (target < 0 || target >= nodes || !count || PyList_GET_SIZE(ends) != count) {
        PyErr_SetString(PyExc_ValueError, "a lane needs a known target and as many ends as contacts");
        return -1;
    }
    lane->target = target;
    lane->ends = PyMem_New(double, count);
    lane->cells = PyMem_Calloc(count, sizeof *lane->cells);
    lane->count = count;
    if (!lane->ends || !lane->cells) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *cell = PyList_GET_ITEM(cells, i);
        if (!PyObject_TypeCheck(cell, &cell_type)) {
            PyErr_SetString(PyExc_TypeError, "a lane holds slots");
            return -1;
        }
        Py_INCREF(cell);
        lane->cells[i] = (cell_t *)cell;
        lane->ends[i] = PyFloat_AsDouble(PyList_GET_ITEM(ends, i));
    }
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *net_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *outgoing;
    if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &outgoing))
        return NULL;
    net_t *net = (net_t *)type->tp_alloc(type, 0);
    if (!net)
        return NULL;
    size_t nodes = (size_t)PyList_GET_SIZE(outgoing);
    net->nodes = (int)nodes;
    net->room = 64;
    net->lanes = PyMem_Calloc(nodes + 1, sizeof *net->lanes);
    net->settled = PyMem_New(int, nodes);
    net->reached = PyMem_New(label_t, nodes);
    net->heap = PyMem_New(label_t, net->room);
    net->steps = PyMem_New(step_t, net->room);
    int failed = !net->lanes || !net->settled || !net->reached || !net->heap || !net->steps;
    for (size_t node = 0; !failed && node < nodes; node++) {
        PyObject *lanes = PyList_GET_ITEM(outgoing, node);
        size_t count = PyList_Check(lanes) ? (size_t)PyList_GET_SIZE(lanes) : 0;
        net->lanes[node] = PyMem_Calloc(count + 1, sizeof **net->lanes);
        failed = !net->lanes[node];
        if (!PyList_Check(lanes)) {
            PyErr_SetString(PyExc_TypeError, "lanes are lists, one for each node");
            failed = 1;
        }
        for (size_t i = 0; !failed && i < count; i++)
            failed = fill_lane(&net->lanes[node][i], PyList_GET_ITEM(lanes, i), net->nodes);
    }
    if (!failed)
        return (PyObject *)net;
    if (!PyErr_Occurred())
        PyErr_NoMemory();
    Py_DECREF(net);
    return NULL;
}

static inline int before(const label_t *one, const label_t *other)
{
    if (one->arrival != other->arrival)
        return one->arrival < other->arrival;
    return one->hops != other->hops ? one->hops < other->hops : one->serial < other->serial;
}

static void push(label_t *heap, int at, label_t label)
{
    while (at && before(&label, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = label;
}

/* Removes the first of `count`. */
static label_t pop(label_t *heap, int count)
{
    label_t first = heap[0], last = heap[count - 1];
    int at = 0, child;
    for (count--; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &last))
            break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return first;
}

/* Room for one more label. */
static int widen(net_t *net, int used)
{
    if (used < net->room)
        return 0;
    size_t room = 2 * (size_t)net->room;
    label_t *heap = PyMem_Realloc(net->heap, room * sizeof *heap);
    if (heap)
        net->heap = heap;
    step_t *steps = PyMem_Realloc(net->steps, room * sizeof *steps);
    if (steps)
        net->steps = steps;
    if (!heap || !steps) {
        PyErr_NoMemory();
        return -1;
    }
    net->room = (int)room;
    return 0;
}

/* First contact of a lane that ends after a time. */
static inline Py_ssize_t first_after(const lane_t *lane, double time)
{
    Py_ssize_t low = 0, high = lane->count;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (lane->ends[middle] > time)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* What is searched for, and under which conditions. */
typedef struct {
    int target, priority, loaded;
    double size, goal;
    PyObject *shut, *without, *passed; /* NULL when empty or unwanted */
    const cell_t *but;                 /* left out like those of `without` */
} wish_t;

static int is_shut(const wish_t *wish, int from, int to)
{
    PyObject *pair = Py_BuildValue("(ii)", from, to);
    int shut = pair ? PySet_Contains(wish->shut, pair) : -1;
    Py_XDECREF(pair);
    return shut;
}

/* Goes from a settled node over every lane to the first contact that takes the bundle. Returns: labels on the heap. */
static int spread(net_t *net, wish_t *wish, label_t from, int labels, int *serial)
{
    const int step = from.hops + 1;
    for (const lane_t *lane = net->lanes[from.node]; lane->count; lane++) {
        const int to = lane->target;
        if (net->settled[to] <= step)
            continue;
        if (wish->shut) {
            int shut = is_shut(wish, from.node, to);
            if (shut < 0)
                return -1;
            if (shut)
                continue;
        }
        for (Py_ssize_t i = first_after(lane, from.arrival); i < lane->count; i++) {
            cell_t *cell = lane->cells[i];
            double leaves = cell->start;
            if (leaves > wish->goal)
                break;
            if (from.arrival > leaves)
                leaves = from.arrival;
            if (!from.hops) {
                if (cell == wish->but)
                    continue;
                if (wish->without) {
                    int without = PySet_Contains(wish->without, (PyObject *)cell);
                    if (without < 0)
                        return -1;
                    if (without)
                        continue;
                }
                if (wish->loaded)
                    leaves += cell->pending[wish->priority] * cell->pace;
            }
            leaves += wish->size * cell->pace;
            if (leaves > cell->stop)
                continue;
            if (cell->down || cell->free[wish->priority] < wish->size) {
                if (wish->passed && PySet_Add(wish->passed, (PyObject *)cell))
                    return -1;
                continue;
            }
            label_t label = {.arrival = arrival(cell, leaves), .hops = step, .serial = *serial + 1, .node = to};
            label_t *reached = &net->reached[to];
            if (label.arrival <= wish->goal && (step < reached->hops || before(&label, reached))) {
                if (before(&label, reached))
                    *reached = label;
                if (to == wish->target)
                    wish->goal = label.arrival;
                if (widen(net, ++*serial))
                    return -1;
                net->steps[*serial] = (step_t){cell, from.serial};
                push(net->heap, labels++, label);
            }
            break;
        }
    }
    return labels;
}

/* The contacts of a label at the destination, after the first `kept` slots of a route, which may be NULL. */
static PyObject *unwind(const net_t *net, label_t label, PyObject *route, Py_ssize_t kept)
{
    PyObject *slots = PyTuple_New(kept + label.hops);
    for (Py_ssize_t i = 0; slots && i < kept; i++)
        PyTuple_SET_ITEM(slots, i, Py_NewRef(PyTuple_GET_ITEM(route, i)));
    for (int i = label.hops - 1, at = label.serial; slots && i >= 0; i--, at = net->steps[at].before)
        PyTuple_SET_ITEM(slots, kept + i, Py_NewRef((PyObject *)net->steps[at].cell));
    return slots;
}

/* Forgets the last search. */
static void reset(net_t *net)
{
    for (int node = 0; node < net->nodes; node++) {
        net->settled[node] = FAR;
        net->reached[node] = (label_t){.arrival = INFINITY, .hops = FAR};
    }
}

/* Searches from a label. Returns: 1 when the destination is reached, with its label; 0 when not; -1 on errors. */
static int run(net_t *net, wish_t *wish, label_t *label)
{
    int labels = 0, serial = 0;
    for (;;) {
        net->settled[label->node] = label->hops;
        labels = spread(net, wish, *label, labels, &serial);
        if (labels < 0)
            return -1;
        do {
            if (!labels)
                return 0;
            *label = pop(net->heap, labels--);
        } while (net->settled[label->node] <= label->hops);
        if (label->node == wish->target)
            return 1;
    }
}

/* NULL for an empty set, else the set; anything else is an error. */
static int as_set(PyObject *value, PyObject **set)
{
    if (!PyAnySet_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "a set is needed");
        return -1;
    }
    *set = PySet_GET_SIZE(value) ? value : NULL;
    return 0;
}

static PyObject *net_search(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    net_t *net = (net_t *)self;
    if (count != 11) {
        PyErr_SetString(PyExc_TypeError, "search takes 11 arguments");
        return NULL;
    }
    label_t from = {.node = (int)PyLong_AsLong(args[0]), .arrival = PyFloat_AsDouble(args[1])};
    wish_t wish = {
        .target = (int)PyLong_AsLong(args[2]),
        .size = PyFloat_AsDouble(args[3]),
        .priority = (int)PyLong_AsLong(args[4]),
        .loaded = PyObject_IsTrue(args[5]),
        .goal = PyFloat_AsDouble(args[6]),
        .passed = args[10] == Py_None ? NULL : args[10],
    };
    if (PyErr_Occurred() || as_set(args[8], &wish.shut) || as_set(args[9], &wish.without))
        return NULL;
    if (wish.passed && !PySet_Check(wish.passed)) {
        PyErr_SetString(PyExc_TypeError, "what is passed by is collected in a set");
        return NULL;
    }
    if (from.node < 0 || from.node >= net->nodes || wish.priority < 0 || wish.priority >= PRIORITIES) {
        PyErr_SetString(PyExc_ValueError, "no such node or priority");
        return NULL;
    }
    reset(net);
    if (!PyTuple_Check(args[7])) {
        PyErr_SetString(PyExc_TypeError, "closed nodes are a tuple");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[7]); i++) {
        long node = PyLong_AsLong(PyTuple_GET_ITEM(args[7], i));
        if (node < 0 || node >= net->nodes) {
            PyErr_SetString(PyExc_ValueError, "no such node");
            return NULL;
        }
        net->settled[node] = -1;
    }
    int reached = run(net, &wish, &from);
    if (reached <= 0)
        return reached < 0 ? NULL : Py_NewRef(Py_None);
    PyObject *slots = unwind(net, from, NULL, 0), *contacts = slots ? PyTuple_New(from.hops) : NULL;
    for (int i = 0; contacts && i < from.hops; i++) {
        PyObject *contact = ((cell_t *)PyTuple_GET_ITEM(slots, i))->contact;
        PyTuple_SET_ITEM(contacts, i, Py_NewRef(contact ? contact : Py_None));
    }
    if (contacts)
        return Py_BuildValue("(dNN)", from.arrival, slots, contacts);
    Py_XDECREF(slots);
    return NULL;
}

/* Adds (arrival, hops, serial, slots, anchor, without, but) of a search that ended at a label to a list. */
static int note(const net_t *net, const wish_t *wish, label_t label, PyObject *route, Py_ssize_t anchor, PyObject *list,
                Py_ssize_t serial)
{
    PyObject *slots = unwind(net, label, route, anchor);
    PyObject *item = !slots ? NULL
                            : Py_BuildValue("(dnnNnOO)", label.arrival, anchor + label.hops, serial, slots, anchor,
                                            wish->without ? wish->without : Py_None, PyTuple_GET_ITEM(route, anchor));
    int failed = item ? PyList_Append(list, item) : -1;
    Py_XDECREF(item);
    return failed;
}

/* What leaves a route at each of its contacts from the one at `kept` on. At that one, others are left out already. */
static int branch(net_t *net, wish_t wish, double time, PyObject *route, Py_ssize_t kept, PyObject *list,
                  Py_ssize_t serial)
{
    PyObject *without = wish.without;
    for (Py_ssize_t anchor = 0; anchor < PyTuple_GET_SIZE(route); anchor++) {
        const cell_t *cell = (cell_t *)PyTuple_GET_ITEM(route, anchor);
        if (anchor >= kept) {
            reset(net);
            for (Py_ssize_t i = 0; i < anchor; i++)
                net->settled[((cell_t *)PyTuple_GET_ITEM(route, i))->source] = -1;
            wish.goal = INFINITY;
            wish.without = anchor == kept ? without : NULL;
            wish.but = cell;
            label_t label = {.node = cell->source, .arrival = time};
            int reached = run(net, &wish, &label);
            if (reached < 0 || (reached && note(net, &wish, label, route, anchor, list, serial + anchor)))
                return -1;
        }
        time = (time > cell->start ? time : cell->start) + wish.size * cell->pace;
        if (time > cell->stop) /* nothing is reached beyond a contact that time has closed */
            break;
        time = arrival(cell, time);
    }
    return 0;
}

static PyObject *net_branch(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    net_t *net = (net_t *)self;
    PyObject *route = count == 10 ? args[0] : NULL;
    if (!route || !PyTuple_Check(route) || !PySet_Check(args[9])) {
        PyErr_SetString(PyExc_TypeError, "branch takes a tuple, 8 more arguments and a set");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(route); i++) {
        PyObject *slot = PyTuple_GET_ITEM(route, i);
        if (!PyObject_TypeCheck(slot, &cell_type) || ((cell_t *)slot)->source < 0 ||
            ((cell_t *)slot)->source >= net->nodes) {
            PyErr_SetString(PyExc_TypeError, "a route is a tuple of slots");
            return NULL;
        }
    }
    double time = PyFloat_AsDouble(args[1]);
    wish_t wish = {
        .target = (int)PyLong_AsLong(args[2]),
        .size = PyFloat_AsDouble(args[3]),
        .priority = (int)PyLong_AsLong(args[4]),
        .passed = args[9],
    };
    Py_ssize_t kept = PyLong_AsSsize_t(args[7]), serial = PyLong_AsSsize_t(args[8]);
    if (PyErr_Occurred() || as_set(args[5], &wish.shut) || as_set(args[6], &wish.without))
        return NULL;
    if (wish.priority < 0 || wish.priority >= PRIORITIES) {
        PyErr_SetString(PyExc_ValueError, "no such priority");
        return NULL;
    }
    PyObject *list = PyList_New(0);
    if (list && branch(net, wish, time, route, kept, list, serial))
        Py_CLEAR(list);
    return list;
}

static PyMethodDef net_methods[] = {
    {"search", (PyCFunction)(void (*)(void))net_search, METH_FASTCALL,
     "search(node, time, target, size, priority, loaded, goal, closed, shut, without, passed)"},
    {"branch", (PyCFunction)(void (*)(void))net_branch, METH_FASTCALL,
     "branch(slots, time, target, size, priority, shut, without, kept, serial, passed)"},
    {NULL, NULL, 0, NULL},
};
static PyTypeObject net_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "marsnet.dtn.routing._kernel.Net",
    .tp_basicsize = sizeof(net_t),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = net_new,
    .tp_dealloc = net_dealloc,
    .tp_methods = net_methods,
};

/* The common arguments of what follows: a route, a number of the caller's own, size and priority. */
static int parse(PyObject *const *args, Py_ssize_t count, double *own, double *size, int *priority)
{
    if (count != 4 || !PyTuple_Check(args[0]) || !PyTuple_GET_SIZE(args[0])) {
        PyErr_SetString(PyExc_TypeError, "a tuple of slots, three numbers, and a booking to take or give are needed");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[0]); i++) {
        PyObject *slot = PyTuple_GET_ITEM(args[0], i);
        if (!PyObject_TypeCheck(slot, &cell_type) || !((cell_t *)slot)->bookings) {
            PyErr_SetString(PyExc_TypeError, "a route is a tuple of slots");
            return -1;
        }
    }
    *own = PyFloat_AsDouble(args[1]);
    *size = PyFloat_AsDouble(args[2]);
    *priority = (int)PyLong_AsLong(args[3]);
    if (PyErr_Occurred())
        return -1;
    if (*priority >= 0 && *priority < PRIORITIES)
        return 0;
    PyErr_SetString(PyExc_ValueError, "no such priority");
    return -1;
}

/* Projected arrival of what begins to leave at a time; negative infinity where a contact cannot take it. */
static double along(PyObject *route, double time, double size, int priority)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(route); i++) {
        const cell_t *cell = (cell_t *)PyTuple_GET_ITEM(route, i);
        time = (time > cell->start ? time : cell->start) + size * cell->pace;
        if (time > cell->stop || cell->free[priority] < size)
            return -INFINITY;
        time = arrival(cell, time);
    }
    return time;
}

static PyObject *project(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    double size, start;
    int priority;
    if (parse(args, count, &start, &size, &priority))
        return NULL;
    double time = along(args[0], start, size, priority);
    if (time == -INFINITY)
        Py_RETURN_NONE;
    return PyFloat_FromDouble(time);
}

static PyObject *depart(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    double size, now;
    int priority;
    if (parse(args, count, &now, &size, &priority))
        return NULL;
    const cell_t *first = (cell_t *)PyTuple_GET_ITEM(args[0], 0);
    double start = (now > first->start ? now : first->start) + first->pending[priority] * first->pace;
    double time = along(args[0], start, size, priority);
    return Py_BuildValue("(dd)", start, time == -INFINITY ? INFINITY : time);
}

static PyObject *take(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    double size, now;
    int priority, tight = 0;
    if (parse(args, count - 1, &now, &size, &priority))
        return NULL;
    cell_t *first = (cell_t *)PyTuple_GET_ITEM(args[0], 0);
    for (int level = priority; level < PRIORITIES; level++)
        first->pending[level] += size;
    double start = now > first->start ? now : first->start;
    if (start + first->pending[PRIORITIES - 1] * first->pace > first->stop)
        tight = 1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[0]); i++) {
        cell_t *cell = (cell_t *)PyTuple_GET_ITEM(args[0], i);
        if (PyDict_SetItem(cell->bookings, args[4], Py_None))
            return NULL;
        for (int level = priority; level < PRIORITIES; level++)
            cell->free[level] -= size;
        tight |= cell->free[PRIORITIES - 1] < 0;
    }
    return PyBool_FromLong(tight);
}

static PyObject *give(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    double size, sent;
    int priority;
    if (parse(args, count - 1, &sent, &size, &priority))
        return NULL;
    cell_t *first = (cell_t *)PyTuple_GET_ITEM(args[0], 0);
    for (int level = priority; level < PRIORITIES; level++)
        first->pending[level] -= size;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[0]); i++) {
        cell_t *cell = (cell_t *)PyTuple_GET_ITEM(args[0], i);
        if (PyDict_DelItem(cell->bookings, args[4]))
            return NULL;
        for (int level = priority; level < PRIORITIES; level++)
            (sent ? cell->spent : cell->free)[level] += size;
    }
    Py_RETURN_NONE;
}

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL
static PyMethodDef functions[] = {
    {"project", FAST(project), "project(slots, start, size, priority): projected arrival, None where it does not fit"},
    {"depart", FAST(depart), "depart(slots, now, size, priority): when a bundle leaves here and when it has arrived"},
    {"take", FAST(take), "take(slots, now, size, priority, booking): whether a contact is now promised too often"},
    {"give", FAST(give), "give(slots, sent, size, priority, booking): end a booking"},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddType(made, &cell_type) || PyModule_AddType(made, &net_type) ||
                 PyModule_AddIntConstant(made, "VERSION", VERSION)))
        Py_CLEAR(made);
    return made;
}
