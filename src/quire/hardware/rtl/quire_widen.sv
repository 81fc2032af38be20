// Copyright the Quire authors. The RTL that Quire emits belongs to whoever emits it.
//
// Width conversion by a whole ratio: OUT_LANES / IN_LANES beats become one; rows of ROW values.
//
// A row starts a new beat on both sides; the last beat of a row is padded with zeros.
// Latency: 1 cycle after the last beat that is needed. Interval: one beat in a cycle.
// Registered: valid and data; ready passes through.
module quire_widen #(
  parameter int unsigned LANE_W    = 8,
  parameter int unsigned IN_LANES  = 1,
  parameter int unsigned OUT_LANES = 2,
  parameter int unsigned ROW       = 4
) (
  input  logic                        clk_i,
  input  logic                        rst_ni,

  input  logic                        in_valid_i,
  output logic                        in_ready_o,
  input  logic [IN_LANES*LANE_W-1:0]  in_data_i,

  output logic                        out_valid_o,
  input  logic                        out_ready_i,
  output logic [OUT_LANES*LANE_W-1:0] out_data_o
);
  localparam int unsigned RATIO     = OUT_LANES / IN_LANES;
  localparam int unsigned ROW_BEATS = (ROW + IN_LANES - 1) / IN_LANES;
  localparam int unsigned LAST      = ROW - (ROW_BEATS - 1) * IN_LANES;
  localparam int unsigned SLOT_CW   = (RATIO > 1) ? $clog2(RATIO) : 1;
  localparam int unsigned ROW_CW    = (ROW_BEATS > 1) ? $clog2(ROW_BEATS) : 1;
  localparam int unsigned IN_W      = IN_LANES * LANE_W;
  // Whether the last beat of a row leaves slots empty, which then have to be zero.
  localparam bit          RAGGED    = ROW_BEATS % RATIO != 0;

  if (RATIO < 2 || OUT_LANES % IN_LANES != 0) begin : gen_check_ratio
    $error("quire_widen: OUT_LANES is a multiple of IN_LANES");
  end

  logic [SLOT_CW-1:0] slot_q;
  logic [ROW_CW-1:0]  row_q;
  logic               full_q, accept, row_last, beat_last;
  logic [IN_W-1:0]    masked;

  assign in_ready_o  = !full_q || out_ready_i;
  assign accept      = in_valid_i && in_ready_o;
  assign row_last    = row_q == ROW_CW'(ROW_BEATS - 1);
  assign beat_last   = row_last || slot_q == SLOT_CW'(RATIO - 1);
  assign out_valid_o = full_q;

  for (genvar i = 0; i < IN_LANES; i++) begin : gen_mask
    assign masked[i*LANE_W +: LANE_W] =
        (i >= LAST && row_last) ? '0 : in_data_i[i*LANE_W +: LANE_W];
  end

  for (genvar s = 0; s < RATIO; s++) begin : gen_slot
    logic [IN_W-1:0] data_q;
    assign out_data_o[s*IN_W +: IN_W] = data_q;
    always_ff @(posedge clk_i) begin
      if (accept && slot_q == SLOT_CW'(s)) data_q <= masked;
      else if (RAGGED && accept && slot_q == '0) data_q <= '0;
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      slot_q <= '0;
      row_q  <= '0;
      full_q <= 1'b0;
    end else begin
      if (accept) begin
        slot_q <= beat_last ? '0 : slot_q + 1'b1;
        row_q  <= row_last ? '0 : row_q + 1'b1;
      end
      if (in_ready_o) full_q <= accept && beat_last;
    end
  end
endmodule
