// Stand-in for ap_axiu<D, U, TI, TD> in the g++ builds; vendor tools bring their own.
// user, id and dest exist only where their width is above 0, so that code which touches an absent one does not compile.
#pragma once

#ifndef AP_INT_MAX_W
#define AP_INT_MAX_W 4096
#endif
#include <ap_int.h>

namespace broadaxe_sim {

template <int W>
struct axi_user {
  ap_uint<W> user;
};
template <>
struct axi_user<0> {};

template <int W>
struct axi_id {
  ap_uint<W> id;
};
template <>
struct axi_id<0> {};

template <int W>
struct axi_dest {
  ap_uint<W> dest;
};
template <>
struct axi_dest<0> {};

}  // namespace broadaxe_sim

template <int D, int U, int TI, int TD>
struct ap_axiu : broadaxe_sim::axi_user<U>, broadaxe_sim::axi_id<TI>, broadaxe_sim::axi_dest<TD> {
  static_assert(D % 8 == 0 && D >= 8 && D <= 4096, "an AXI-Stream word has 1 to 512 whole bytes");
  ap_uint<D> data;
  ap_uint<D / 8> keep;
  ap_uint<D / 8> strb;
  ap_uint<1> last;
};

#ifdef BROADAXE_TRACE
#include <hls_stream.h>
namespace broadaxe_trace {
template <int D, int U, int TI, int TD>
struct split<ap_axiu<D, U, TI, TD> > {
  static void append(History& history, const ap_axiu<D, U, TI, TD>& beat) { split<ap_uint<D> >::append(history, beat.data); }
};
}  // namespace broadaxe_trace
#endif
