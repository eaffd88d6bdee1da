// Native-integer twin of ap_int<W> and ap_uint<W>, for the fast C simulation (BROADAXE_NATIVE).
//
// A value of up to 64 bits lives in the smallest built-in integer and is wrapped to exactly W bits whenever it is built or
// assigned, as ap_int does. Arithmetic is the built-in type's: an expression does not grow by itself, so kernels that need
// growth go through arith.hpp. Wider ap_uint values are limb arrays that know bit ranges only (AXI-Stream words).
// Like ap_int, a default-constructed value is not initialised.
#pragma once

#include <cstdint>
#include <type_traits>

namespace broadaxe_native {

// Smallest built-in integer of at least W bits.
template <int W, bool SIGNED>
struct storage {
  static_assert(W >= 1 && W <= 64, "a native integer has 1 to 64 bits");
  typedef typename std::conditional<
      (W <= 8), int8_t,
      typename std::conditional<(W <= 16), int16_t,
                                typename std::conditional<(W <= 32), int32_t, int64_t>::type>::type>::type signed_type;
  typedef typename std::conditional<SIGNED, signed_type, typename std::make_unsigned<signed_type>::type>::type type;
};

// The signed built-in type that an expression computes in; only ap_uint<64> has none and stays unsigned.
template <int W, bool SIGNED>
struct arithmetic {
  static const int BITS = SIGNED ? W : W + 1;
  typedef typename std::conditional<
      (BITS <= 32), int,
      typename std::conditional<(BITS <= 64), long long, unsigned long long>::type>::type type;
};

template <int W, bool SIGNED, bool SHORT = (W <= 32)>
struct wrapped;

// Shift the sign bit to the top and back: g++ defines both the conversion and the arithmetic shift.
template <int W>
struct wrapped<W, true, true> {
  static int32_t of(uint32_t bits) { return static_cast<int32_t>(bits << (32 - W)) >> (32 - W); }
};
template <int W>
struct wrapped<W, true, false> {
  static int64_t of(uint64_t bits) { return static_cast<int64_t>(bits << (64 - W)) >> (64 - W); }
};
template <int W>
struct wrapped<W, false, true> {
  static uint32_t of(uint32_t bits) { return bits & (~uint32_t(0) >> (32 - W)); }
};
template <int W>
struct wrapped<W, false, false> {
  static uint64_t of(uint64_t bits) { return bits & (~uint64_t(0) >> (64 - W)); }
};

inline uint64_t low_mask(int bits) { return bits >= 64 ? ~uint64_t(0) : (uint64_t(1) << bits) - 1; }

// Bits [lo, lo + length) of a value, at most 64 of them, as a place that can be read and assigned.
template <typename Owner>
struct slice {
  Owner& owner;
  int lo, length;

  slice(Owner& owner_, int lo_, int length_) : owner(owner_), lo(lo_), length(length_) {}
  slice(const slice& other) : owner(other.owner), lo(other.lo), length(other.length) {}
  operator unsigned long long() const { return owner.bits_at(lo, length); }
  slice& operator=(unsigned long long bits) {
    owner.set_bits_at(lo, length, bits);
    return *this;
  }
  slice& operator=(const slice& other) { return *this = static_cast<unsigned long long>(other); }
};

template <int W, bool SIGNED>
struct narrow {
  typedef typename storage<W, SIGNED>::type storage_type;
  typedef typename arithmetic<W, SIGNED>::type arithmetic_type;
  static const int width = W;

  storage_type value;

  narrow() = default;
  template <typename I, typename = typename std::enable_if<std::is_integral<I>::value>::type>
  narrow(I from) : value(wrap(static_cast<uint64_t>(from))) {}
  template <int W2, bool S2>
  narrow(const narrow<W2, S2>& from) : value(wrap(static_cast<uint64_t>(from.value))) {}
  template <typename Owner>
  narrow(const slice<Owner>& from) : value(wrap(static_cast<unsigned long long>(from))) {}

  operator arithmetic_type() const { return static_cast<arithmetic_type>(value); }
  int to_int() const { return static_cast<int>(value); }
  unsigned to_uint() const { return static_cast<unsigned>(value); }
  long long to_int64() const { return static_cast<long long>(value); }
  unsigned long long to_uint64() const { return static_cast<unsigned long long>(value); }

  // Compound assignments compute modulo 2^64, then wrap: no signed overflow on the way.
  template <typename I>
  narrow& operator+=(const I& x) { return set(raw() + raw_of(x)); }
  template <typename I>
  narrow& operator-=(const I& x) { return set(raw() - raw_of(x)); }
  template <typename I>
  narrow& operator*=(const I& x) { return set(raw() * raw_of(x)); }
  template <typename I>
  narrow& operator&=(const I& x) { return set(raw() & raw_of(x)); }
  template <typename I>
  narrow& operator|=(const I& x) { return set(raw() | raw_of(x)); }
  template <typename I>
  narrow& operator^=(const I& x) { return set(raw() ^ raw_of(x)); }
  narrow& operator<<=(int n) { return set(n >= W ? 0 : raw() << n); }
  narrow& operator>>=(int n) { return *this = narrow(static_cast<storage_type>(value >> (n >= W ? W - 1 : n)), n >= W && !SIGNED); }
  narrow& operator++() { return *this += 1; }
  narrow& operator--() { return *this -= 1; }
  narrow operator++(int) { const narrow before = *this; *this += 1; return before; }
  narrow operator--(int) { const narrow before = *this; *this -= 1; return before; }

  bool operator[](int bit) const { return ((raw() >> bit) & 1) != 0; }
  unsigned long long range(int hi, int lo) const { return bits_at(lo, hi - lo + 1); }
  slice<narrow> range(int hi, int lo) { return slice<narrow>(*this, lo, hi - lo + 1); }
  unsigned long long operator()(int hi, int lo) const { return range(hi, lo); }
  slice<narrow> operator()(int hi, int lo) { return range(hi, lo); }

  unsigned long long bits_at(int lo, int length) const { return (raw() >> lo) & low_mask(length); }
  void set_bits_at(int lo, int length, unsigned long long bits) {
    const uint64_t mask = low_mask(length) << lo;
    set((raw() & ~mask) | ((static_cast<uint64_t>(bits) << lo) & mask));
  }

 private:
  narrow(storage_type shifted, bool cleared) : value(cleared ? storage_type(0) : shifted) {}
  static storage_type wrap(uint64_t bits) {
    typedef typename std::conditional<(W <= 32), uint32_t, uint64_t>::type raw_type;
    return static_cast<storage_type>(wrapped<W, SIGNED>::of(static_cast<raw_type>(bits)));
  }
  uint64_t raw() const { return static_cast<uint64_t>(value); }
  template <typename I>
  static uint64_t raw_of(const I& x) {
    return narrow<64, true>(x).value;
  }
  narrow& set(uint64_t bits) {
    value = wrap(bits);
    return *this;
  }
};

// Bits above 64: storage for AXI-Stream data, keep and strb; no arithmetic.
template <int W>
struct wide {
  static const int width = W;
  static const int LIMBS = (W + 63) / 64;

  uint64_t limb[LIMBS];

  wide() = default;
  template <typename I, typename = typename std::enable_if<std::is_integral<I>::value>::type>
  wide(I from) {
    limb[0] = static_cast<uint64_t>(from);
    const uint64_t fill = from < I(0) ? ~uint64_t(0) : 0;
    for (int k = 1; k < LIMBS; k++) limb[k] = fill;
    limb[LIMBS - 1] &= low_mask(W - 64 * (LIMBS - 1));
  }

  bool operator==(const wide& other) const {
    bool same = true;
    for (int k = 0; k < LIMBS; k++) same = same && limb[k] == other.limb[k];
    return same;
  }
  bool operator!=(const wide& other) const { return !(*this == other); }

  unsigned long long range(int hi, int lo) const { return bits_at(lo, hi - lo + 1); }
  slice<wide> range(int hi, int lo) { return slice<wide>(*this, lo, hi - lo + 1); }
  unsigned long long operator()(int hi, int lo) const { return range(hi, lo); }
  slice<wide> operator()(int hi, int lo) { return range(hi, lo); }

  unsigned long long bits_at(int lo, int length) const {
    const int k = lo / 64, shift = lo % 64;
    uint64_t bits = limb[k] >> shift;
    if (shift + length > 64) bits |= limb[k + 1] << (64 - shift);
    return bits & low_mask(length);
  }
  void set_bits_at(int lo, int length, unsigned long long bits) {
    const int k = lo / 64, shift = lo % 64;
    const uint64_t mask = low_mask(length), kept = bits & mask;
    limb[k] = (limb[k] & ~(mask << shift)) | (kept << shift);
    if (shift + length > 64) limb[k + 1] = (limb[k + 1] & ~(mask >> (64 - shift))) | (kept >> (64 - shift));
  }
};

}  // namespace broadaxe_native

template <int W>
struct ap_int : broadaxe_native::narrow<W, true> {
  typedef broadaxe_native::narrow<W, true> base;
  using base::base;
  ap_int() = default;
};

template <int W>
struct ap_uint : std::conditional<(W <= 64), broadaxe_native::narrow<(W <= 64 ? W : 64), false>, broadaxe_native::wide<W> >::type {
  typedef typename std::conditional<(W <= 64), broadaxe_native::narrow<(W <= 64 ? W : 64), false>,
                                    broadaxe_native::wide<W> >::type base;
  using base::base;
  ap_uint() = default;
};
