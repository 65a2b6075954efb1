/* The type Encoder: made once, of the SDK's types and of the functions of Python that have what it does not take. */
#include "encoder.h"

#include "interruption.h"

static const char *const NAME_TEXTS[NAMES] = {
    "_context", "_parent", "_status", "_events", "_name", "_kind", "_start_time", "_end_time", "_attributes", "_links",
    "_resource", "_instrumentation_scope", "_dict", "dropped", "_dq", "dropped", "_status_code", "_description",
    "_dict", "_timestamp",
};

/* What is read of each type whose layout is known. */
static const struct {
    Part type;
    Name first;
    int count;
} KNOWN[LAYOUTS] = {
    [SPAN_LAYOUT] = {READABLE_SPAN, S_CONTEXT, OF_SPAN},
    [ATTRIBUTES_LAYOUT] = {BOUNDED_ATTRIBUTES, A_DICT, OF_ATTRIBUTES},
    [LIST_LAYOUT] = {BOUNDED_LIST, L_DEQUE, OF_LIST},
    [STATUS_LAYOUT] = {STATUS, T_CODE, OF_STATUS},
    [TRACE_STATE_LAYOUT] = {TRACE_STATE, W_DICT, 1},
};

static int layouts_learn(Encoder *self, PyObject *samples)
{
    for (int layout = 0; layout < LAYOUTS; layout++) {
        PyObject *sample = PyTuple_GET_ITEM(samples, layout);
        if (!IS(sample, KNOWN[layout].type)) {
            PyErr_SetString(PyExc_TypeError, "an encoder learns of samples where attributes are kept");
            return -1;
        }
        PyObject *const *names = &self->names[KNOWN[layout].first];
        if (layout_learn(&self->layouts[layout], sample, names, KNOWN[layout].count) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A record as ``quickly`` makes it, or else as the function that is the part ``careful`` does. */
static PyObject *record_of(PyObject *object, PyObject *const *args, Py_ssize_t count, Quickly quickly, Part careful)
{
    Encoder *self = (Encoder *)object;
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "an encoder takes a span and a limit");
        return NULL;
    }
    PyObject *span = args[0], *limit = count > 1 ? args[1] : Py_None;
    if (IS(span, READABLE_SPAN)) {
        Py_ssize_t most = limit == Py_None ? -1 : PyLong_CheckExact(limit) ? PyLong_AsSsize_t(limit) : -2;
        if (limit == Py_None || most >= 0) {
            Reading reading;
            SpanRecord *record = NULL;
            if (reading_begin(self, span, &reading) == 0) {
                record = quickly(self, span, &reading, most);
                reading_end(self, &reading);
            }
            if (record != NULL || is_applications()) {
                return (PyObject *)record;
            }
        }
        PyErr_Clear();
    }
    return PyObject_CallFunctionObjArgs(self->parts[careful], span, limit, NULL);
}

static PyObject *encoder_encode(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return record_of(self, args, count, encode_quickly, CAREFUL);
}

static PyObject *encoder_wrap(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return record_of(self, args, count, wrap_quickly, WRAP);
}

static PyObject *encoder_attributes(PyObject *object, PyObject *span)
{
    Encoder *self = (Encoder *)object;
    if (IS(span, READABLE_SPAN)) {
        PyObject *attributes = get(self, span, S_ATTRIBUTES), *read[OF_ATTRIBUTES], *dict = NULL;
        if (attributes != NULL && attributes_read(self, attributes, read) == 0) {
            dict = Py_NewRef(read[0]);
            known_end(self, ATTRIBUTES_LAYOUT, read);
        }
        Py_XDECREF(attributes);
        if (dict != NULL) {
            return dict;
        }
        PyErr_Clear();
    }
    return PyObject_CallOneArg(self->parts[ATTRIBUTES], span);
}

static PyObject *encoder_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"readable_span", "span_context", "trace_flags", "trace_state", "status",
                            "bounded_attributes", "bounded_list", "event", "link", "kinds", "status_codes", "priority",
                            "careful", "wrap", "group", "name", "key", "any_value", "shortened", "attributes",
                            "samples", NULL};
    PyObject *parts[PARTS], *samples;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "$OOOOOOOOOO!O!OOOOOOOOOO!:Encoder", names, &parts[READABLE_SPAN], &parts[SPAN_CONTEXT],
            &parts[TRACE_FLAGS], &parts[TRACE_STATE], &parts[STATUS], &parts[BOUNDED_ATTRIBUTES], &parts[BOUNDED_LIST],
            &parts[EVENT], &parts[LINK], &PyTuple_Type, &parts[KINDS], &PyTuple_Type, &parts[STATUS_CODES],
            &parts[PRIORITY], &parts[CAREFUL], &parts[WRAP], &parts[GROUP], &parts[NAME], &parts[KEY],
            &parts[ANY_VALUE], &parts[SHORTENED], &parts[ATTRIBUTES], &PyTuple_Type, &samples)) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(parts[KINDS]) != KIND_COUNT || PyTuple_GET_SIZE(parts[STATUS_CODES]) != STATUS_COUNT ||
        !PyType_Check(parts[SPAN_CONTEXT]) ||
        !PyType_IsSubtype((PyTypeObject *)parts[SPAN_CONTEXT], &PyTuple_Type) || !PyType_Check(parts[TRACE_FLAGS]) ||
        !PyType_IsSubtype((PyTypeObject *)parts[TRACE_FLAGS], &PyLong_Type)) {
        PyErr_SetString(PyExc_TypeError, "spans of this SDK are not made as the compiled encoder knows them");
        return NULL;
    }
    for (int part = READABLE_SPAN; part <= LINK; part++) {
        if (!PyType_Check(parts[part]) || ((PyTypeObject *)parts[part])->tp_getattro == NULL) {
            PyErr_SetString(PyExc_TypeError, "an encoder is made of types first");
            return NULL;
        }
    }
    if (PyTuple_GET_SIZE(samples) != LAYOUTS) {
        PyErr_SetString(PyExc_TypeError, "an encoder learns of samples, one of each type");
        return NULL;
    }
    PyObject *module = PyType_GetModule(type);
    PyObject *record_type = module ? PyObject_GetAttrString(module, "SpanRecord") : NULL;
    if (record_type == NULL) {
        return NULL;
    }
    Encoder *self = (Encoder *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(record_type);
        return NULL;
    }
    self->record_type = (PyTypeObject *)record_type;
    for (int part = 0; part < PARTS; part++) {
        self->parts[part] = Py_NewRef(parts[part]);
    }
    for (int name = 0; name < NAMES; name++) {
        if ((self->names[name] = PyUnicode_InternFromString(NAME_TEXTS[name])) == NULL) {
            Py_DECREF(self);
            return NULL;
        }
    }
    if (layouts_learn(self, samples) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int encoder_traverse(PyObject *object, visitproc visit, void *arg)
{
    Encoder *self = (Encoder *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->record_type);
    for (int part = 0; part < PARTS; part++) {
        Py_VISIT(self->parts[part]);
    }
    for (int place = 0; place < GROUPS; place++) {
        Py_VISIT(self->groups[place].resource);
        Py_VISIT(self->groups[place].scope);
        Py_VISIT(self->groups[place].group);
    }
    return 0;
}

static int encoder_clear(PyObject *object)
{
    Encoder *self = (Encoder *)object;
    for (int place = 0; place < GROUPS; place++) {
        Py_CLEAR(self->groups[place].group);
        Py_CLEAR(self->groups[place].resource);
        Py_CLEAR(self->groups[place].scope);
    }
    return 0;
}

static void encoder_dealloc(PyObject *object)
{
    Encoder *self = (Encoder *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    encoder_clear(object);
    for (int part = 0; part < PARTS; part++) {
        Py_XDECREF(self->parts[part]);
    }
    for (int name = 0; name < NAMES; name++) {
        Py_XDECREF(self->names[name]);
    }
    Py_XDECREF(self->record_type);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef encoder_methods[] = {
    {"encode", (PyCFunction)(void (*)(void))encoder_encode, METH_FASTCALL,
     "encode(span, limit=None, /): a span that ended into a record."},
    {"wrap", (PyCFunction)(void (*)(void))encoder_wrap, METH_FASTCALL,
     "wrap(span, limit=None, /): a record that carries the span itself."},
    {"attributes", encoder_attributes, METH_O,
     "attributes(span, /): the span's attributes, to look at and not to keep."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot encoder_slots[] = {
    {Py_tp_doc, "Encodes spans of the SDK; what is not as it knows it, it leaves to ``careful``."},
    {Py_tp_new, encoder_make},
    {Py_tp_dealloc, encoder_dealloc},
    {Py_tp_traverse, encoder_traverse},
    {Py_tp_clear, encoder_clear},
    {Py_tp_methods, encoder_methods},
    {0, NULL},
};

PyType_Spec encoder_spec = {
    .name = "otel_shed.compiled._extension.Encoder",
    .basicsize = sizeof(Encoder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = encoder_slots,
};
