// Shifts one integer right until KEEP bits hold its magnitude: the part that casts to
// floating-point formats share.
//
// x is cut at bit DROP + shift, where shift is the smallest number for which the KEEP bits from
// there on hold the magnitude; half_o is the bit below the cut, and rest_o tells whether any bit
// below that one is set. All this is done in two's complement: what is cut off is floor(x), and
// sig_o is the ones' complement of its bits where x is negative. So negation needs no adder of its
// own. If `up` rounds floor(x) up, the rounded magnitude is sig_o + (up ^ sign):
//   x >= 0: floor + up       x < 0: -(floor + up) = ~floor + 1 - up
// A magnitude of 2^k is normalized as 2^k - 1 where x is negative; adding one mends that.
// big_o: the shift would need more than SHIFT_W bits; then the other outputs mean nothing.
//
// Combinational, nothing is registered.

module quire_normalize #(
  parameter int unsigned IN_W    = 24,
  parameter int unsigned DROP    = 4,
  parameter int unsigned KEEP    = 4,
  parameter int unsigned SHIFT_W = 4
) (
  input  logic [IN_W-1:0]    x_i,
  output logic [KEEP-1:0]    sig_o,
  output logic [SHIFT_W-1:0] shift_o,
  output logic               half_o,
  output logic               rest_o,
  output logic               big_o
);
  // The leading bit of a magnitude is bit IN_W - 2 at most, and DROP + KEEP - 1 needs no shift.
  localparam int unsigned MaxShift = IN_W > DROP + KEEP + 1 ? IN_W - 1 - DROP - KEEP : 1;
  localparam int unsigned Needed   = $clog2(MaxShift + 1);
  localparam int unsigned Stages   = Needed < SHIFT_W ? Needed : SHIFT_W;
  localparam int unsigned KeptW    = KEEP + (1 << Stages);  // half bit, KEEP bits, largest shift
  localparam int unsigned MinWideW = DROP + KeptW;
  localparam int unsigned WideW    = IN_W > MinWideW ? IN_W : MinWideW;

  if (IN_W < 2) begin : gen_check_in_w
    $error("quire_normalize: IN_W must be at least 2");
  end
  if (KEEP < 1) begin : gen_check_keep
    $error("quire_normalize: KEEP must be at least 1");
  end
  if (SHIFT_W < 1) begin : gen_check_shift_w
    $error("quire_normalize: SHIFT_W must be at least 1");
  end

  logic                sign;
  logic [WideW+1:0]    wide;  // two zero bits at the right: there is always something to cut
  logic [WideW-DROP:0] flipped;
  logic [KeptW-1:0]    kept;

  assign sign    = x_i[IN_W-1];
  assign wide    = {WideW'(signed'(x_i)), 2'b00};
  assign flipped = wide[WideW+1:DROP+1] ^ {(WideW - DROP + 1) {sign}};
  assign big_o   = |flipped[WideW-DROP:KeptW];

  always_comb begin
    kept    = flipped[KeptW-1:0];
    rest_o  = |wide[DROP:0];
    shift_o = '0;
    for (int k = Stages - 1; k >= 0; k--) begin
      // Later stages shift by up to 2^k - 1; what lies above their reach asks for 2^k here.
      shift_o[k] = |(kept >> (KEEP + (1 << k)));
      if (shift_o[k]) begin
        rest_o = rest_o | (|((kept ^ {KeptW{sign}}) & ((KeptW'(1) << (1 << k)) - KeptW'(1))));
        kept   = kept >> (1 << k);
      end else begin
        // These bits are zero already; saying so lets synthesis narrow every later stage.
        kept = kept & ((KeptW'(1) << (KEEP + (1 << k))) - KeptW'(1));
      end
    end
  end

  assign sig_o  = kept[KEEP:1];
  assign half_o = kept[0] ^ sign;
endmodule
