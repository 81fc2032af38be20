// Finds the code of an integer in an ascending table of values, by thresholds.
//
// Entry i of THRESHOLDS (packed, IN_W-bit two's complement, entry 0 in the low bits, ascending) is
// the smallest x with a code above i; x is wide enough to hold every one of them. A binary search:
// a comparison for each bit of the code, a cycle each. Latency BITS cycles, interval 1. Every
// comparison is registered; in_ready_o passes through from out_ready_i, which holds the whole
// pipeline.
// The table is kept with places of a power of two, since a tool may compute others by a multiplier.

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

  localparam int unsigned PLACE_W = 1 << $clog2(IN_W);

  // Entry i in place i + 1, which is the code so far with the bit that is compared.
  function automatic logic [(1<<BITS)*PLACE_W-1:0] places();
    places[0 +: PLACE_W] = '0;
    for (int i = 1; i < (1 << BITS); i++) begin
      places[i*PLACE_W +: PLACE_W] = PLACE_W'(THRESHOLDS[(i-1)*IN_W +: IN_W]);
    end
  endfunction
  localparam logic [(1<<BITS)*PLACE_W-1:0] PLACES = places();

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
      logic [IN_W-1:0] x;
      logic [BITS-1:0] code;
      if (b == BITS) begin : gen_first
        assign x    = in_data_i[l*IN_W +: IN_W];
        assign code = '0;
      end else begin : gen_compare
        logic [IN_W-1:0] threshold;
        logic [BITS-1:0] found;
        assign threshold = PLACES[(32'(gen_level[b+1].code) | (1 << b))*PLACE_W +: IN_W];
        assign found     = BITS'(signed'(gen_level[b+1].x) >= signed'(threshold)) << b;
        always_ff @(posedge clk_i) begin
          if (advance) begin
            x    <= gen_level[b+1].x;
            code <= gen_level[b+1].code | found;
          end
        end
      end
    end
    logic unused_x;
    assign unused_x = ^gen_level[0].x;
    assign out_data_o[l*BITS +: BITS] = gen_level[0].code;
  end
endmodule
