# Vivado, as far as a block design needs it: commands and options of UG835, cells with the pins of their product guides.
# Anything else is an error. `record` prints what a test reads; validate_bd_design checks what is connected.
#
#   tclsh vivado.tcl PART TOP PORTS SCRIPT ARGUMENTS...     PORTS: {name in|out bytes ...}

set part_given [lindex $argv 0]
set top [lindex $argv 1]
set ports [lindex $argv 2]
set script [lindex $argv 3]
set argv [lrange $argv 4 end]

set families {xc7z020clg400-1 zynq xczu7ev-ffvc1156-2-e zynquplus xck26-sfvc784-2LV-c zynquplus xczu28dr-ffvg1517-2-e zynquplusRFSOC xc7a100tcsg324-1 artix7}
set cores {processing_system7:5.5 zynq_ultra_ps_e:3.3 zynq_ultra_ps_e:3.5 proc_sys_reset:5.0 smartconnect:1.0 axi_dma:7.1 axis_subset_converter:1.1 axis_dwidth_converter:1.1}
set known {
  processing_system7 {PCW_USE_M_AXI_GP0 PCW_USE_S_AXI_HP0 PCW_S_AXI_HP0_DATA_WIDTH PCW_EN_CLK0_PORT PCW_EN_RST0_PORT PCW_FPGA0_PERIPHERAL_FREQMHZ}
  zynq_ultra_ps_e {PSU__USE__M_AXI_GP0 PSU__USE__M_AXI_GP1 PSU__USE__M_AXI_GP2 PSU__USE__S_AXI_GP2 PSU__SAXIGP2__DATA_WIDTH PSU__FPGA_PL0_ENABLE PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ}
  smartconnect {NUM_SI NUM_MI}
  axi_dma {c_include_sg c_sg_include_stscntrl_strm c_sg_length_width c_addr_width c_include_mm2s c_include_s2mm c_include_mm2s_dre c_include_s2mm_dre c_m_axi_mm2s_data_width c_m_axis_mm2s_tdata_width c_mm2s_burst_size c_m_axi_s2mm_data_width c_s2mm_burst_size}
  axis_subset_converter {S_TDATA_NUM_BYTES M_TDATA_NUM_BYTES S_HAS_TKEEP M_HAS_TKEEP S_HAS_TLAST M_HAS_TLAST TDATA_REMAP TKEEP_REMAP TLAST_REMAP}
  axis_dwidth_converter {M_TDATA_NUM_BYTES}
  proc_sys_reset {}
}
set cells [dict create]
set config [dict create]
set wired [dict create]
set valid 0

proc record {args} { puts "RECORD $args" }

# Options of a command: `flags` stand alone, `valued` take a value, the rest is returned.
proc parsed {command given flags valued} {
  set rest {}
  set found [dict create]
  for {set i 0} {$i < [llength $given]} {incr i} {
    set word [lindex $given $i]
    if {$word in $flags} {
      dict set found $word 1
    } elseif {$word in $valued} {
      incr i
      if {$i >= [llength $given]} { error "$command: $word has no value" }
      dict set found $word [lindex $given $i]
    } elseif {[regexp {^-[a-z]} $word]} {
      error "$command: $word is no option"
    } else {
      lappend rest $word
    }
  }
  return [list $found $rest]
}

proc create_project {args} {
  lassign [parsed create_project $args {-force -in_memory} {-part}] found rest
  if {[llength $rest] != 2} { error "create_project: give a name and a folder" }
  get_parts [dict get $found -part]
  record project {*}$rest [dict get $found -part]
}
proc current_project {} { return project }
proc current_fileset {} { return sources_1 }
proc update_ip_catalog {args} { parsed update_ip_catalog $args {-rebuild} {} }
proc get_parts {part} {
  if {![dict exists $::families $part]} { error "get_parts: no part $part" }
  return $part
}
proc get_ipdefs {args} {
  lassign [parsed get_ipdefs $args {-quiet} {-filter}] found rest
  set all [lmap core $::cores {string cat xilinx.com:ip: $core}]
  lappend all xilinx.com:hls:$::top:1.0
  if {[dict exists $found -filter]} {
    if {![regexp {^NAME == (\w+)$} [dict get $found -filter] _ name]} { error "get_ipdefs: filter" }
    return [lsearch -all -inline $all *:$name:*]
  }
  return [lsearch -all -inline $all [lindex $rest 0]]
}
proc create_bd_design {name} { record design $name }
proc create_bd_cell {args} {
  lassign [parsed create_bd_cell $args {} {-type -vlnv}] found name
  if {[dict get $found -type] ne "ip" || [get_ipdefs [dict get $found -vlnv]] eq ""} { error "create_bd_cell: $args" }
  if {[llength $name] != 1 || [dict exists $::cells $name]} { error "create_bd_cell: $name" }
  lassign [split [dict get $found -vlnv] :] _ library core
  dict set ::cells $name [expr {$library eq "hls" ? "accelerator" : $core}]
  dict set ::config $name [dict create c_include_mm2s 1 c_include_s2mm 1 NUM_SI 1 NUM_MI 1 PSU__USE__M_AXI_GP0 1 PSU__USE__M_AXI_GP1 1]
  record cell $name [dict get $::cells $name] [dict get $found -vlnv]
}
proc get_bd_cells {name} {
  if {![dict exists $::cells $name]} { error "get_bd_cells: no cell $name" }
  return $name
}
proc set_property {args} {
  lassign [parsed set_property $args {} {-dict}] found rest
  if {[dict exists $found -dict]} {
    lassign $rest object
    set pairs [dict get $found -dict]
    if {[llength $pairs] % 2} { error "set_property: odd list for $object" }
  } else {
    lassign $rest name value object
    set pairs [list $name $value]
  }
  foreach {name value} $pairs {
    if {[dict exists $::cells $object]} {
      if {![regexp {^CONFIG\.(\w+)$} $name _ key]} { error "set_property: $name of $object" }
      if {$key ni [dict get $::known [dict get $::cells $object]]} { error "set_property: $object has no $name" }
      dict set ::config $object $key $value
    } elseif {"$object $name" ni {"project board_part" "project ip_repo_paths" "sources_1 top"}} {
      error "set_property: $object has no $name"
    }
    record property $object $name $value
  }
}
proc get_property {args} {
  lassign [parsed get_property $args {} {}] _ rest
  lassign $rest name object
  switch -- $name {
    FAMILY { return [dict get $::families $object] }
    PROGRESS { return 100% }
    STATUS { return "write_bitstream Complete!" }
    STATS.WNS - STATS.WHS { return [expr {[info exists ::env(SLACK)] ? $::env(SLACK) : 0.1}] }
  }
  error "get_property: $name"
}
proc apply_bd_automation {args} {
  lassign [parsed apply_bd_automation $args {} {-rule -config}] found cell
  set rule [dict get $found -rule]
  if {$rule ne "xilinx.com:bd_rule:[dict get $::cells $cell]"} { error "apply_bd_automation: $rule for $cell" }
  set allowed [expr {[dict get $::cells $cell] eq "zynq_ultra_ps_e" ? {apply_board_preset} : {make_external apply_board_preset Master Slave}}]
  foreach key [dict keys [dict get $found -config]] {
    if {$key ni $allowed} { error "apply_bd_automation: $key" }
  }
  record automation $cell [dict get $found -config]
}

proc set_to {cell key} { return [expr {[dict exists $::config $cell $key] && [dict get $::config $cell $key]}] }

# {interface role kind ...} of a cell as it is configured; streams have their width behind the kind.
proc interfaces {cell} {
  switch [dict get $::cells $cell] {
    processing_system7 {
      set all {}
      if {[set_to $cell PCW_USE_M_AXI_GP0]} { lappend all M_AXI_GP0 master axi }
      if {[set_to $cell PCW_USE_S_AXI_HP0]} { lappend all S_AXI_HP0 slave axi }
    }
    zynq_ultra_ps_e {
      set all {}
      if {[set_to $cell PSU__USE__M_AXI_GP0]} { lappend all M_AXI_HPM0_FPD master axi }
      if {[set_to $cell PSU__USE__M_AXI_GP1]} { lappend all M_AXI_HPM1_FPD master axi }
      if {[set_to $cell PSU__USE__S_AXI_GP2]} { lappend all S_AXI_HP0_FPD slave axi }
    }
    smartconnect {
      set all {}
      foreach {role count letter} [list slave [dict get $::config $cell NUM_SI] S master [dict get $::config $cell NUM_MI] M] {
        if {$count < 1 || $count > 16} { error "$cell: $count interfaces" }
        for {set i 0} {$i < $count} {incr i} { lappend all [format %s%02d_AXI $letter $i] $role axi }
      }
    }
    axi_dma {
      set all {S_AXI_LITE slave axi}
      if {[set_to $cell c_include_mm2s]} { lappend all M_AXI_MM2S master axi M_AXIS_MM2S master axis }
      if {[set_to $cell c_include_s2mm]} { lappend all M_AXI_S2MM master axi S_AXIS_S2MM slave axis }
    }
    axis_subset_converter - axis_dwidth_converter { set all {S_AXIS slave axis M_AXIS master axis} }
    accelerator {
      set all [expr {[info exists ::env(CONTROL)] && $::env(CONTROL) ne "" ? [list $::env(CONTROL) slave axi] : {}}]
      foreach {name direction bytes} $::ports { lappend all $name [expr {$direction eq "in" ? "slave" : "master"}] axis }
    }
    default { set all {} }
  }
  return $all
}
proc pins {cell} {
  switch [dict get $::cells $cell] {
    processing_system7 { return [list FCLK_CLK0 out FCLK_RESET0_N out M_AXI_GP0_ACLK in S_AXI_HP0_ACLK in] }
    zynq_ultra_ps_e {
      set all {pl_clk0 out pl_resetn0 out}
      foreach {key pin} {PSU__USE__M_AXI_GP0 maxihpm0_fpd_aclk PSU__USE__M_AXI_GP1 maxihpm1_fpd_aclk PSU__USE__S_AXI_GP2 saxihp0_fpd_aclk} {
        if {[set_to $cell $key]} { lappend all $pin in }
      }
      return $all
    }
    proc_sys_reset { return {slowest_sync_clk in ext_reset_in in peripheral_aresetn out interconnect_aresetn out mb_reset out} }
    smartconnect - axis_subset_converter - axis_dwidth_converter { return {aclk in aresetn in} }
    axi_dma {
      set all {s_axi_lite_aclk in axi_resetn in}
      if {[set_to $cell c_include_mm2s]} { lappend all m_axi_mm2s_aclk in mm2s_introut out }
      if {[set_to $cell c_include_s2mm]} { lappend all m_axi_s2mm_aclk in s2mm_introut out }
      return $all
    }
    accelerator { return {ap_clk in ap_rst_n in} }
  }
}
proc get_bd_intf_pins {args} {
  lassign [parsed get_bd_intf_pins $args {-quiet} {}] found rest
  lassign [split [lindex $rest 0] /] cell pin
  foreach {name role kind} [interfaces [get_bd_cells $cell]] {
    if {$name eq $pin} { return $cell/$pin }
  }
  if {[dict exists $found -quiet]} { return {} }
  error "get_bd_intf_pins: $cell has no $pin"
}
proc get_bd_pins {path} {
  lassign [split $path /] cell pin
  if {![dict exists [pins [get_bd_cells $cell]] $pin]} { error "get_bd_pins: $cell has no $pin" }
  return $path
}
proc role {path} {
  lassign [split $path /] cell pin
  foreach {name role kind} [interfaces $cell] {
    if {$name eq $pin} { return [list $role $kind] }
  }
}
proc connect_bd_intf_net {from to} {
  if {[role $from] ne [list master [lindex [role $to] 1]] || [lindex [role $to] 0] ne "slave"} { error "connect_bd_intf_net: $from to $to" }
  foreach end [list $from $to] {
    if {[dict exists $::wired $end]} { error "connect_bd_intf_net: $end is connected already" }
    dict set ::wired $end 1
  }
  dict set ::wired $to $from
  record interface $from $to
}
proc connect_bd_net {from to} {
  lassign [split $from /] cell pin
  lassign [split $to /] cell_to pin_to
  if {[dict get [pins $cell] $pin] ne "out" || [dict get [pins $cell_to] $pin_to] ne "in"} { error "connect_bd_net: $from to $to" }
  if {[dict exists $::wired $to]} { error "connect_bd_net: $to has a driver" }
  dict set ::wired $to $from
  record net $from $to
}

# Bytes of a stream where it leaves a cell; a width converter takes what comes.
proc width {path} {
  lassign [split $path /] cell pin
  switch "[dict get $::cells $cell] $pin" {
    {axi_dma M_AXIS_MM2S} { return [expr {[dict get $::config $cell c_m_axis_mm2s_tdata_width] / 8}] }
    {axis_subset_converter M_AXIS} - {axis_dwidth_converter M_AXIS} { return [dict get $::config $cell M_TDATA_NUM_BYTES] }
    {axis_subset_converter S_AXIS} { return [dict get $::config $cell S_TDATA_NUM_BYTES] }
  }
  foreach {name direction bytes} $::ports {
    if {$path eq "accelerator/$name"} { return $bytes }
  }
  return any
}
proc assign_bd_address {} { record addresses }
proc validate_bd_design {} {
  dict for {cell core} $::cells {
    foreach {pin direction} [pins $cell] {
      if {$direction eq "in" && ![dict exists $::wired $cell/$pin]} { error "validate_bd_design: $cell/$pin has no driver" }
    }
    foreach {pin role kind} [interfaces $cell] {
      if {![dict exists $::wired $cell/$pin]} { error "validate_bd_design: $cell/$pin is not connected" }
      if {$kind ne "axis" || $role ne "slave"} { continue }
      set bytes [width [dict get $::wired $cell/$pin]]
      if {[width $cell/$pin] ni [list any $bytes]} { error "validate_bd_design: $bytes bytes into $cell/$pin of [width $cell/$pin]" }
      if {$core eq "axi_dma"} {
        if {$bytes ni {1 2 4 8 16 32 64 128} || 8 * $bytes > [dict get $::config $cell c_m_axi_s2mm_data_width]} { error "validate_bd_design: $bytes bytes into $cell" }
      } elseif {$core eq "axis_dwidth_converter"} {
        set made [dict get $::config $cell M_TDATA_NUM_BYTES]
        if {$made > 512 || $bytes > 512 || ($made % $bytes && $bytes % $made)} { error "validate_bd_design: $cell" }
      } elseif {$core eq "axis_subset_converter"} {
        set bits [expr {8 * [dict get $::config $cell M_TDATA_NUM_BYTES]}]
        foreach piece [split [dict get $::config $cell TDATA_REMAP] ,] {
          if {[regexp {^tdata\[(\d+):0\]$} $piece _ high]} {
            set bits [expr {$bits - $high - 1}]
            if {$high >= 8 * $bytes} { error "validate_bd_design: $piece of $bytes bytes" }
          } elseif {[regexp {^(\d+)'b([01]+)$} $piece _ count digits] && [string length $digits] == $count} {
            set bits [expr {$bits - $count}]
          } else {
            error "validate_bd_design: $piece"
          }
        }
        if {$bits} { error "validate_bd_design: $cell leaves $bits bits" }
      }
    }
    if {$core eq "axi_dma"} {
      foreach side {mm2s s2mm} {
        if {![set_to $cell c_include_$side]} { continue }
        if {[dict get $::config $cell c_m_axi_${side}_data_width] ni {32 64 128 256 512 1024}} { error "validate_bd_design: $cell" }
      }
      if {[set_to $cell c_include_mm2s]} {
        set stream [dict get $::config $cell c_m_axis_mm2s_tdata_width]
        if {$stream ni {8 16 32 64 128 256 512 1024} || $stream > [dict get $::config $cell c_m_axi_mm2s_data_width]} { error "validate_bd_design: $cell" }
      }
    }
  }
  set ::valid 1
  record valid
}
proc save_bd_design {} { record saved }
proc get_files {name} { return /project/$name }
proc make_wrapper {args} {
  lassign [parsed make_wrapper $args {-top} {-files}] found
  return [dict get $found -files]_wrapper.v
}
proc add_files {args} { record add_files [lindex [parsed add_files $args {-norecurse} {-fileset}] 1] }
proc update_compile_order {args} { parsed update_compile_order $args {} {-fileset} }
proc launch_runs {args} {
  lassign [parsed launch_runs $args {} {-to_step -jobs}] found rest
  if {!$::valid || $rest ne "impl_1" || [dict get $found -to_step] ne "write_bitstream"} { error "launch_runs: $args" }
  file mkdir $::env(PROJECT)/$::top.runs/impl_1 $::env(PROJECT)/$::top.$::env(GENERATED)/sources_1/bd/design/hw_handoff
  close [open $::env(PROJECT)/$::top.runs/impl_1/design_wrapper.bit w]
  close [open $::env(PROJECT)/$::top.$::env(GENERATED)/sources_1/bd/design/hw_handoff/design.hwh w]
  record run $found
}
proc wait_on_run {run} {}
proc open_run {run} {}
proc get_runs {run} { return $run }
proc report_utilization {args} { parsed report_utilization $args {-hierarchical} {-file} }
proc report_timing_summary {args} { parsed report_timing_summary $args {} {-file} }

# What a script may use of Tcl itself is all of it; what Vivado would not know, tclsh does not know either.
if {[catch {source $script} message]} {
  puts "ERROR $message"
  exit 1
}
