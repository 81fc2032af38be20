// Concatenation along the last axis: a row of stream a, then a row of stream b, as one row.
//
// Rows of A_ROW values in beats of A_LANES and rows of B_ROW values in beats of B_LANES become
// rows of A_ROW + B_ROW values in beats of OUT_LANES; rows are padded with zeros to whole beats.
// Latency 1 cycle after the last value that a beat needs; interval at least
// ceil(A_ROW / A_LANES) + ceil(B_ROW / B_LANES) cycles a row. a_ready_o, b_ready_o, out_valid_o and
// out_data_o are functions of registers alone.
module quire_concat #(
  parameter int unsigned LANE_W    = 8,
  parameter int unsigned A_LANES   = 1,
  parameter int unsigned B_LANES   = 1,
  parameter int unsigned OUT_LANES = 1,
  parameter int unsigned A_ROW     = 1,
  parameter int unsigned B_ROW     = 1
) (
  input  logic                        clk_i,
  input  logic                        rst_ni,
  input  logic                        a_valid_i,
  output logic                        a_ready_o,
  input  logic [  A_LANES*LANE_W-1:0] a_data_i,
  input  logic                        b_valid_i,
  output logic                        b_ready_o,
  input  logic [  B_LANES*LANE_W-1:0] b_data_i,
  output logic                        out_valid_o,
  input  logic                        out_ready_i,
  output logic [OUT_LANES*LANE_W-1:0] out_data_o
);

  function automatic int unsigned common_divisor(input int unsigned a, input int unsigned b);
    common_divisor = 1;
    for (int unsigned i = 2; i <= a; i++) begin
      if (a % i == 0 && b % i == 0) common_divisor = i;
    end
  endfunction

  // Values move in units that divide every beat, short ones included.
  localparam int unsigned A_UNIT = common_divisor(A_LANES, A_ROW);
  localparam int unsigned B_UNIT = common_divisor(B_LANES, B_ROW);
  localparam int unsigned UNIT = common_divisor(common_divisor(A_UNIT, B_UNIT), OUT_LANES);
  localparam int unsigned A_BEATS = (A_ROW + A_LANES - 1) / A_LANES;
  localparam int unsigned B_BEATS = (B_ROW + B_LANES - 1) / B_LANES;
  localparam int unsigned A_TAIL = A_ROW - (A_BEATS - 1) * A_LANES;
  localparam int unsigned B_TAIL = B_ROW - (B_BEATS - 1) * B_LANES;
  localparam int unsigned A_W = A_LANES * LANE_W;
  localparam int unsigned B_W = B_LANES * LANE_W;
  localparam logic [A_W-1:0] A_MASK = {A_W{1'b1}} >> ((A_LANES - A_TAIL) * LANE_W);
  localparam logic [B_W-1:0] B_MASK = {B_W{1'b1}} >> ((B_LANES - B_TAIL) * LANE_W);
  localparam int unsigned IN_LANES = (A_LANES > B_LANES) ? A_LANES : B_LANES;
  localparam int unsigned IN_W = IN_LANES * LANE_W;
  localparam int unsigned COUNT_W = $clog2(IN_LANES / UNIT + 1);
  localparam int unsigned BEATS = A_BEATS + B_BEATS;
  localparam int unsigned BEAT_W = $clog2(BEATS);

  if (LANE_W < 1 || A_LANES < 1 || B_LANES < 1 || OUT_LANES < 1) begin : g_check_size
    $error("quire_concat: LANE_W, A_LANES, B_LANES and OUT_LANES must be 1 or more");
  end
  if (A_ROW < 1 || B_ROW < 1) begin : g_check_row
    $error("quire_concat: A_ROW and B_ROW must be 1 or more");
  end

  logic [ BEAT_W-1:0] beat_q;
  logic [COUNT_W-1:0] a_count, b_count;
  logic [    A_W-1:0] a_values;
  logic [    B_W-1:0] b_values;
  logic from_a, a_last, b_last, ready, valid;

  assign from_a   = beat_q < BEAT_W'(A_BEATS);
  assign a_last   = beat_q == BEAT_W'(A_BEATS - 1);
  assign b_last   = beat_q == BEAT_W'(BEATS - 1);
  assign a_count  = a_last ? COUNT_W'(A_TAIL / UNIT) : COUNT_W'(A_LANES / UNIT);
  assign b_count  = b_last ? COUNT_W'(B_TAIL / UNIT) : COUNT_W'(B_LANES / UNIT);
  assign a_values = a_last ? a_data_i & A_MASK : a_data_i;
  assign b_values = b_last ? b_data_i & B_MASK : b_data_i;

  assign valid     = from_a ? a_valid_i : b_valid_i;
  assign a_ready_o = ready & from_a;
  assign b_ready_o = ready & ~from_a;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) beat_q <= '0;
    else if (valid && ready) beat_q <= b_last ? '0 : beat_q + BEAT_W'(1);
  end

  quire_gearbox #(
    .UNIT_W   (UNIT * LANE_W),
    .IN_UNITS (IN_LANES / UNIT),
    .OUT_UNITS(OUT_LANES / UNIT),
    .ROW_UNITS((A_ROW + B_ROW) / UNIT)
  ) gearbox (
    .clk_i,
    .rst_ni,
    .in_valid_i(valid),
    .in_ready_o(ready),
    .in_count_i(from_a ? a_count : b_count),
    .in_data_i (from_a ? IN_W'(a_values) : IN_W'(b_values)),
    .out_valid_o,
    .out_ready_i,
    .out_data_o
  );

endmodule
