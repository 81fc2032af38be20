"""Names in emitted SystemVerilog: whatever a model calls its modules, none is a keyword or taken.

A name of the top ends in what it is, and no two endings are alike: wires `<stream>_valid`, `_ready`
and `_data`; instances `<stage>_stage`, `<input>_axis_in` and `<output>_axis_out`; ports
`s_axis_<input>_tdata` and so on. Modules begin with what they are: `stage_`, and `quire_` for the
library. No keyword of SystemVerilog ends or begins so.
"""

from __future__ import annotations

import re

from quire.errors import HardwareError

_STAGE = "_stage"


def identifier(path: str) -> str:
    """A path as a part of names: dots become two underscores, a digit in front gets an `m`."""
    clean = re.sub(r"\W", "_", path.replace(".", "__"), flags=re.ASCII)
    return clean if re.match(r"[A-Za-z]", clean) else f"m{clean}"


class Names:
    """Names that are taken; they differ in more than case, for file systems that see none."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def free(self, name: str) -> str:
        """Take the name, or where it is taken the first free one of `name_2`, `name_3`, ..."""
        free, n = name, 1
        while free.lower() in self._taken:
            n += 1
            free = f"{name}_{n}"
        self._taken.add(free.lower())
        return free


def module_of(stage: str) -> str:
    """The module of a stage."""
    return f"stage_{stage}"


def instance_of(stage: str) -> str:
    """The instance of a stage in the top."""
    return f"{stage}{_STAGE}"


def stage_of(instance: str) -> str:
    """The inverse of `instance_of`; an instance of something else is its own name."""
    return instance.removesuffix(_STAGE)


def check_top(name: str) -> None:
    """HardwareError unless the top can have this name."""
    keyword = "|".join(KEYWORDS), "is a keyword of SystemVerilog"
    for pattern, fault in (*_ILLEGAL, keyword):
        if re.fullmatch(pattern, name, re.ASCII):
            raise HardwareError(f"name={name!r} {fault}: take another, such as 'top'")


_ILLEGAL = (
    (r"(?![A-Za-z]\w*\Z)(?s:.*)", "is not a letter, then letters, digits and underscores"),
    (rf"(?i:quire|{module_of('')[:-1]})_.*", "begins like the modules below the top"),
    (rf"\w*_(t?data|t?valid|t?ready|tlast|axis_in|axis_out|{_STAGE[1:]})", "ends like names in it"),
    ("aclk|aresetn|errors?", "is a port or a wire of the top"),
    ("std", "is a package of SystemVerilog"),
    ("TOP", "is a name that Verilator keeps for itself"),
)
"""(what the top cannot be called, why), besides keywords."""

_WORDS = """
    accept_on alias always always_comb always_ff always_latch and assert assign assume automatic
    before begin bind bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle
    checker class clocking cmos config const constraint context continue cover covergroup
    coverpoint cross deassign default defparam design disable dist do edge else end endcase
    endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface
    endmodule endpackage endprimitive endprogram endproperty endsequence endspecify endtable
    endtask enum event eventually expect export extends extern final first_match for force
    foreach forever fork forkjoin function generate genvar global highz0 highz1 if iff ifnone
    ignore_bins illegal_bins implements implies import incdir include initial inout input inside
    instance int integer interconnect interface intersect join join_any join_none large let
    liblist library local localparam logic longint macromodule matches medium modport module
    nand negedge nettype new nexttime nmos nor noshowcancelled not notif0 notif1 null or output
    package packed parameter pmos posedge primitive priority program property protected pull0
    pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase
    randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos
    rpmos rtran rtranif0 rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared
    sequence shortint shortreal showcancelled signed small soft solve specify specparam static
    string strong strong0 strong1 struct super supply0 supply1 sync_accept_on sync_reject_on
    table tagged task this throughout time timeprecision timeunit tran tranif0 tranif1 tri tri0
    tri1 triand trior trireg type typedef union unique unique0 unsigned until until_with untyped
    use uwire var vectored virtual void wait wait_order wand weak weak0 weak1 while wildcard
    wire with within wor xnor xor
"""
KEYWORDS = frozenset(_WORDS.split())
"""Every reserved word of IEEE 1800-2017, Annex B."""
