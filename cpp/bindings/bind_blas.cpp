#include "gprann/blas.hpp"

#include "pybind.hpp"

namespace gprann::bindings {

namespace {

/// The function behind one of the capsules that scipy.linalg.cython_blas and cython_lapack publish.
template <class Function>
Function from_capsule(const py::object& capsule) {
  if (capsule.is_none()) return nullptr;
  void* pointer = PyCapsule_GetPointer(capsule.ptr(), PyCapsule_GetName(capsule.ptr()));
  if (pointer == nullptr) throw py::error_already_set();
  return reinterpret_cast<Function>(pointer);
}

Blas make_blas(const py::object& gemm, const py::object& syrk, const py::object& trsm,
               const py::object& potrf) {
  return {from_capsule<Blas::Gemm>(gemm), from_capsule<Blas::Syrk>(syrk), from_capsule<Blas::Trsm>(trsm),
          from_capsule<Blas::Potrf>(potrf)};
}

void require_square(const MatrixIn& K, const char* name) {
  if (K.rows() != K.cols()) throw std::invalid_argument(std::string(name) + " must be square");
}

Index factor(const Blas& blas, MatrixOut K, int n_threads) {
  require_square(K, "K");
  return cholesky(blas, {K.data(), K.rows(), K.cols(), K.outerStride()}, n_threads);
}

void gram(const Blas& blas, const MatrixIn& A, MatrixOut C, int n_threads) {
  require_square(C, "C");
  require_size(A.cols(), C.rows(), "a row of A");
  add_gram(blas, {A.data(), A.rows(), A.cols(), A.outerStride()},
           {C.data(), C.rows(), C.cols(), C.outerStride()}, n_threads);
}

void gram_of_rows(const Blas& blas, const MatrixIn& A, MatrixOut C, int n_threads) {
  require_square(C, "C");
  require_size(A.rows(), C.rows(), "a column of A");
  add_gram_of_rows(blas, {A.data(), A.rows(), A.cols(), A.outerStride()},
                   {C.data(), C.rows(), C.cols(), C.outerStride()}, n_threads);
}

template <void (*solve)(const Blas&, ConstBlock, Block, int)>
void solve_rows(const Blas& blas, const MatrixIn& L, MatrixOut B, int n_threads) {
  require_square(L, "L");
  require_size(B.cols(), L.rows(), "a right-hand side");
  solve(blas, {L.data(), L.rows(), L.cols(), L.outerStride()},
        {B.data(), B.rows(), B.cols(), B.outerStride()}, n_threads);
}

}  // namespace

void bind_blas(py::module_& module) {
  py::class_<Blas>(module, "Blas", "BLAS and LAPACK routines behind the large products.")
      .def(py::init(&make_blas), py::arg("gemm") = py::none(), py::arg("syrk") = py::none(),
           py::arg("trsm") = py::none(), py::arg("potrf") = py::none());
  module.def("cholesky", &factor, py::arg("blas"), py::arg("K").noconvert(), py::arg("n_threads"),
             ReleaseGil(),
             "K (n, n) <- its Cholesky factor in the lower triangle; returns -1 or the failing row.");
  module.def("add_gram", &gram, py::arg("blas"), py::arg("A").noconvert(), py::arg("C").noconvert(),
             py::arg("n_threads"), ReleaseGil(), "Lower triangle of C (n, n) <- C + A^T A for A (k, n).");
  module.def("add_gram_of_rows", &gram_of_rows, py::arg("blas"), py::arg("A").noconvert(),
             py::arg("C").noconvert(), py::arg("n_threads"), ReleaseGil(),
             "Lower triangle of C (n, n) <- C + A A^T for A (n, k).");
  module.def("solve_lower", &solve_rows<solve_lower>, py::arg("blas"), py::arg("L").noconvert(),
             py::arg("B").noconvert(), py::arg("n_threads"), ReleaseGil(), "Rows b of B <- L^-1 b.");
  module.def("solve_lower_transposed", &solve_rows<solve_lower_transposed>, py::arg("blas"),
             py::arg("L").noconvert(), py::arg("B").noconvert(), py::arg("n_threads"), ReleaseGil(),
             "Rows b of B <- L^-T b.");
}

}  // namespace gprann::bindings
