// Python's own interface: the headers of pybind11 would take longer to compile than all else here.
#include <Python.h>

#include "instruction_set.hpp"

namespace {

PyObject* py_instruction_set(PyObject*, PyObject*) { return PyUnicode_FromString(instruction_set()); }

PyMethodDef functions[] = {{"instruction_set", py_instruction_set, METH_NOARGS,
                            "Return the best build that this processor runs: base, v3 or v4."},
                           {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "_cpu",
                          "Which build of the compiled core suits this processor. Private.",
                          -1,
                          functions,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__cpu() { return PyModule_Create(&definition); }
