// Finds the code of an integer in an ascending table of values, by thresholds.
//
// Entry i of THRESHOLDS (packed, IN_W-bit two's complement, entry 0 in the low bits, ascending) is
// the smallest x with a code above i; x is wide enough to hold every one of them. A binary search:
// one comparison a bit of the code, one after the other. Combinational, nothing is registered.
// The table is kept with places of a power of two, since a tool may compute others by a multiplier.

module quire_cast_table #(
  parameter int unsigned LANES = 1,
  parameter int unsigned IN_W  = 8,
  parameter int unsigned BITS  = 2,
  parameter logic [((1<<BITS)-1)*IN_W-1:0] THRESHOLDS = 24'h2000_E0
) (
  input  logic [LANES*IN_W-1:0] x_i,
  output logic [LANES*BITS-1:0] code_o
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

  for (genvar l = 0; l < LANES; l++) begin : gen_lane
    logic [BITS-1:0] code;
    logic [IN_W-1:0] threshold;

    always_comb begin
      code = '0;
      for (int b = BITS - 1; b >= 0; b--) begin
        threshold = PLACES[(32'(code) | (1 << b))*PLACE_W +: IN_W];
        code[b]   = signed'(x_i[l*IN_W +: IN_W]) >= signed'(threshold);
      end
    end
    assign code_o[l*BITS +: BITS] = code;
  end
endmodule
