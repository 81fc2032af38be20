// Environment of the proof of quire_axis_out: a reset first, and again at any time. That tlast marks
// every last beat of a sample is stated here, because its invariant spans the cell and its slice.
module formal_axis_out #(
  parameter int unsigned BEATS = 3
) (
  input logic       clk_i,
  input logic       rst_ni,
  input logic       in_valid_i,
  input logic [2:0] in_data_i,
  input logic       tready_i
);

  localparam int unsigned BEAT_W = (BEATS > 1) ? $clog2(BEATS) : 1;

  logic tvalid, tlast;
  logic started = 1'b0;
  logic [BEAT_W-1:0] sent_q;  // beats of the sample that have left
  (* hierconn *) wire \dut.slice.main_valid_q ;
  (* hierconn *) wire \dut.slice.skid_valid_q ;
  (* hierconn *) wire [3:0] \dut.slice.main_q ;
  (* hierconn *) wire [3:0] \dut.slice.skid_q ;
  (* hierconn *) wire [BEAT_W-1:0] \dut.beat_q ;

  always_comb assume (started || !rst_ni);

  always_ff @(posedge clk_i) begin
    started <= 1'b1;
    if (!rst_ni) sent_q <= '0;
    else if (tvalid && tready_i) sent_q <= BEAT_W'((8'(sent_q) + 8'd1) % 8'(BEATS));
    if (rst_ni) begin
      a_last : assert (!tvalid || tlast == (8'(sent_q) == 8'(BEATS - 1)));
      a_sent : assert (8'(sent_q) < BEATS);
      a_position : assert (8'(\dut.beat_q ) == (8'(sent_q) + 8'(\dut.slice.main_valid_q )
                                             + 8'(\dut.slice.skid_valid_q )) % 8'(BEATS));
      a_waits : assert (!\dut.slice.skid_valid_q
                        || \dut.slice.skid_q [3] == ((8'(sent_q) + 8'd1) % 8'(BEATS) == 8'(BEATS - 1)));
    end
  end

  quire_axis_out #(
    .TDATA_W(5),
    .WIDTH  (3),
    .BEATS  (BEATS)
  ) dut (
    .clk_i,
    .rst_ni,
    .in_valid_i,
    .in_ready_o(),
    .in_data_i,
    .tvalid_o  (tvalid),
    .tready_i,
    .tdata_o   (),
    .tlast_o   (tlast)
  );

endmodule
