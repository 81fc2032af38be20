// Finds the code of an integer in an ascending table of values, by thresholds.
//
// Entry i of THRESHOLDS (packed, IN_W-bit two's complement, entry 0 in the low bits, ascending) is
// the smallest x with a code above i; x is wide enough to hold every one of them. A binary search:
// a comparison for each bit of the code, a cycle each, while both thresholds are read of which the
// next is one. Latency BITS cycles, interval 1. Every comparison is registered; in_ready_o passes
// through from out_ready_i, which holds the whole pipeline.

module quire_cast_table #(
  parameter int unsigned LANES = 1,
  parameter int unsigned IN_W  = 8,
  parameter int unsigned BITS  = 2,
  parameter logic [((1<<BITS)-1)*IN_W-1:0] THRESHOLDS = 24'h2000_E0
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  input  logic                  in_valid_i,
  output logic                  in_ready_o,
  input  logic [LANES*IN_W-1:0] in_data_i,
  output logic                  out_valid_o,
  input  logic                  out_ready_i,
  output logic [LANES*BITS-1:0] out_data_o
);
  if (LANES < 1) begin : gen_check_lanes
    $error("quire_cast_table: LANES must be at least 1");
  end
  if (IN_W < 2) begin : gen_check_in_w
    $error("quire_cast_table: IN_W must be at least 2");
  end
  if (BITS < 1) begin : gen_check_bits
    $error("quire_cast_table: BITS must be at least 1");
  end

  // The threshold that finds a bit of a code, from the bits above it and a 1 in its place.
  function automatic logic [IN_W-1:0] threshold_of(input int unsigned code);
    threshold_of = THRESHOLDS[(code-1)*IN_W +: IN_W];
  endfunction

  logic [BITS-1:0] valid_q;  // bit 0: of the last comparison
  logic advance;

  assign out_valid_o = valid_q[0];
  assign advance     = out_ready_i | ~out_valid_o;
  assign in_ready_o  = advance;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= '0;
    else if (advance) valid_q <= BITS'({in_valid_i, valid_q} >> 1);
  end

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    // Level b finds bit b of the code; level BITS is what came in.
    for (genvar b = BITS; b >= 0; b--) begin : gen_level
      logic [IN_W-1:0] x, threshold;  // the threshold of the level below
      logic [BITS-1:0] code;
      if (b == BITS) begin : gen_first
        assign x         = in_data_i[l*IN_W +: IN_W];
        assign threshold = threshold_of(1 << (BITS - 1));
        assign code      = '0;
      end else begin : gen_compare
        logic reached;
        logic [IN_W-1:0] next;
        assign reached = signed'(gen_level[b+1].x) >= signed'(gen_level[b+1].threshold);
        always_ff @(posedge clk_i) begin
          if (advance) begin
            x         <= gen_level[b+1].x;
            threshold <= next;
            code      <= gen_level[b+1].code | (BITS'(reached) << b);
          end
        end
        if (b == 0) begin : gen_last
          assign next = '0;
        end else begin : gen_next
          // Both thresholds for each value of the bits that are known.
          localparam int unsigned KNOWN   = BITS - 1 - b;
          localparam int unsigned KNOWN_W = (KNOWN > 0) ? KNOWN : 1;
          (* rom_style = "logic" *) logic [2*IN_W-1:0] words[1<<KNOWN];
          logic [2*IN_W-1:0] both;
          initial begin
            for (int unsigned i = 0; i < (1 << KNOWN); i++) begin
              words[i] = {threshold_of((2 * i + 1) * (1 << b) + (1 << (b - 1))),
                          threshold_of(2 * i * (1 << b) + (1 << (b - 1)))};
            end
          end
          assign both = words[KNOWN_W'((BITS + 1)'(gen_level[b+1].code) >> (b + 1))];
          assign next = reached ? both[IN_W +: IN_W] : both[0 +: IN_W];
        end
      end
    end
    logic unused;
    assign unused = ^{gen_level[0].x, gen_level[0].threshold};
    assign out_data_o[l*BITS +: BITS] = gen_level[0].code;
  end
endmodule
