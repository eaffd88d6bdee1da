// Integer types by width, and arithmetic that gives the same value in all three builds.
//
// ap_int results grow (8 bits * 4 bits has 12), built-in ones do not. Kernels therefore never multiply or add lanes
// directly: product(), wrapped_sum() and the *_type traits widen explicitly in the native build and let ap_int grow in the others.
#pragma once

#ifndef AP_INT_MAX_W
#define AP_INT_MAX_W 4096
#endif
#include <ap_int.h>
#ifdef BROADAXE_NATIVE
#include <type_traits>
#endif

namespace broadaxe {

// Width and sign of a lane type.
template <typename T>
struct lane;
template <int W>
struct lane<ap_int<W> > {
  static const int width = W;
  static const bool is_signed = true;
};
template <int W>
struct lane<ap_uint<W> > {
  static const int width = W;
  static const bool is_signed = false;
};

// ap_int<W> or ap_uint<W>.
template <int W, bool SIGNED>
struct integer;
template <int W>
struct integer<W, true> {
  typedef ap_int<W> type;
};
template <int W>
struct integer<W, false> {
  typedef ap_uint<W> type;
};

// ceil(log2(N)): bits that a sum of N equal terms adds.
template <int N>
struct clog2 {
  static const int value = 1 + clog2<(N + 1) / 2>::value;
};
template <>
struct clog2<1> {
  static const int value = 0;
};

template <int A, int B>
struct larger {
  static const int value = A > B ? A : B;
};
template <int A, int B>
struct smaller {
  static const int value = A < B ? A : B;
};

// A type for intermediate values of W bits: nothing that fits W bits is lost in it.
template <int W, bool SIGNED>
struct intermediate {
#ifdef BROADAXE_NATIVE
  static const int BITS = SIGNED ? W : W + 1;
  static_assert(BITS <= 64, "an intermediate value of the native build has at most 64 bits");
  typedef typename std::conditional<(BITS <= 32), int, long long>::type type;
#else
  typedef typename integer<W, SIGNED>::type type;
#endif
};

template <typename A, typename B>
struct product_type {
  typedef typename intermediate<lane<A>::width + lane<B>::width, lane<A>::is_signed || lane<B>::is_signed>::type type;
};

// Sum of N products of an A and a B.
template <typename A, typename B, int N>
struct dot_type {
  typedef typename intermediate<lane<A>::width + lane<B>::width + clog2<N>::value,
                                lane<A>::is_signed || lane<B>::is_signed>::type type;
};

template <typename A, typename B>
typename product_type<A, B>::type product(A a, B b) {
#pragma HLS INLINE
#ifdef BROADAXE_NATIVE
  typedef typename product_type<A, B>::type P;
  return static_cast<P>(a) * static_cast<P>(b);
#else
  return a * b;
#endif
}

// What a dot product adds up: operands multiplied,
template <typename A, typename B>
struct multiplied {
  static typename product_type<A, B>::type of(A a, B b) {
#pragma HLS INLINE
    return product(a, b);
  }
};

// the same in the fabric,
template <typename A, typename B>
struct in_fabric {
  static typename product_type<A, B>::type of(A a, B b) {
#pragma HLS INLINE
    const typename product_type<A, B>::type p = product(a, b);
#ifdef __VITIS_HLS__
#pragma HLS BIND_OP variable=p op=mul impl=fabric
#else
#pragma HLS RESOURCE variable=p core=Mul_LUT
#endif
    return p;
  }
};

// in a DSP block each,
template <typename A, typename B>
struct in_dsp {
  static typename product_type<A, B>::type of(A a, B b) {
#pragma HLS INLINE
    const typename product_type<A, B>::type p = product(a, b);
#ifdef __VITIS_HLS__
#pragma HLS BIND_OP variable=p op=mul impl=dsp
#else
#pragma HLS RESOURCE variable=p core=DSP48
#endif
    return p;
  }
};

// or matching bits (XNOR): with weights 2b - 1 and inputs x of one bit, the sum of (2b - 1)*x is the number of matches less the number of b = 0.
template <typename A, typename B>
struct matches {
  static_assert(lane<A>::width == 1 && lane<B>::width == 1 && !lane<A>::is_signed && !lane<B>::is_signed, "only bits match");
  static typename product_type<A, B>::type of(A a, B b) {
#pragma HLS INLINE
    return typename product_type<A, B>::type(a == b ? 1 : 0);
  }
};

// a + x modulo 2^width(Acc), in two's complement.
template <typename Acc, typename X>
Acc wrapped_sum(Acc a, X x) {
#pragma HLS INLINE
#ifdef BROADAXE_NATIVE
  typedef typename std::conditional<(lane<Acc>::width <= 32), unsigned, unsigned long long>::type U;
  return Acc(static_cast<U>(a) + static_cast<U>(x));
#else
  return Acc(a + x);
#endif
}

// The low `bits` bits of x in two's complement, for 1 to width(Acc) of them: wires, where `bits` is a constant.
template <typename Acc>
Acc sign_extended(Acc x, int bits) {
#pragma HLS INLINE
#ifdef BROADAXE_NATIVE
  typedef typename std::conditional<(lane<Acc>::width <= 32), int, long long>::type S;
  typedef typename std::make_unsigned<S>::type U;
  const int unused = 8 * static_cast<int>(sizeof(S)) - bits;
  return Acc(static_cast<S>(static_cast<U>(x) << unused) >> unused);
#else
  const int unused = lane<Acc>::width - bits;
  const Acc lifted = x << unused;
  return Acc(lifted >> unused);
#endif
}

}  // namespace broadaxe
