// Two inputs, two outputs: sum = a + b + a ROM's word 1, and echo = {b, a, b, 16'hBEEF}.
// A beat passes every second cycle. On a, 8'hEE jams the top for ever and 8'hFF fails an assertion;
// a tlast elsewhere than on beat 3 of 4 raises error.
module paced (
  input  logic        aclk,
  input  logic        aresetn,
  input  logic [7:0]  s_axis_a_tdata,
  input  logic        s_axis_a_tvalid,
  output logic        s_axis_a_tready,
  input  logic        s_axis_a_tlast,
  input  logic [23:0] s_axis_b_tdata,
  input  logic        s_axis_b_tvalid,
  output logic        s_axis_b_tready,
  input  logic        s_axis_b_tlast,
  output logic [23:0] m_axis_sum_tdata,
  output logic        m_axis_sum_tvalid,
  input  logic        m_axis_sum_tready,
  output logic        m_axis_sum_tlast,
  output logic [71:0] m_axis_echo_tdata,
  output logic        m_axis_echo_tvalid,
  input  logic        m_axis_echo_tready,
  output logic        m_axis_echo_tlast,
  output logic        error
);

  logic        a__0_valid, a__0_ready;
  logic [7:0]  a__0_data;
  logic        b_valid, b_ready;
  logic [23:0] b_data;
  logic        sum_ready, echo_ready;
  logic        pass, phase_q, jam_q, error_q, last;
  logic        wrong_last, a_last, b_last;
  logic [1:0]  beat_q;
  logic [7:0]  rom [2];

  assign pass = a__0_valid && b_valid && sum_ready && echo_ready && phase_q && !jam_q;
  assign a__0_ready = pass;
  assign b_ready = pass;
  assign last = beat_q == 2'd3;
  assign error = error_q;

  initial $readmemh("mem/rom.mem", rom, 0, 1);

  always_ff @(posedge aclk) begin
    if (!aresetn) begin
      phase_q <= 1'b0;
      jam_q   <= 1'b0;
      beat_q  <= 2'd0;
      error_q <= 1'b0;
    end else begin
      phase_q <= !phase_q;
      if (pass) beat_q <= beat_q + 2'd1;
      if (pass && a__0_data == 8'hEE) jam_q <= 1'b1;
      if (pass && wrong_last) error_q <= 1'b1;
    end
  end

  assign wrong_last = (a_last != last) || (b_last != last);

  paced_slice #(.WIDTH(9)) u_a (
    .clk_i(aclk), .rst_ni(aresetn),
    .in_valid_i(s_axis_a_tvalid), .in_ready_o(s_axis_a_tready),
    .in_data_i({s_axis_a_tlast, s_axis_a_tdata}),
    .out_valid_o(a__0_valid), .out_ready_i(a__0_ready), .out_data_o({a_last, a__0_data})
  );
  paced_slice #(.WIDTH(25)) u_b (
    .clk_i(aclk), .rst_ni(aresetn),
    .in_valid_i(s_axis_b_tvalid), .in_ready_o(s_axis_b_tready),
    .in_data_i({s_axis_b_tlast, s_axis_b_tdata}),
    .out_valid_o(b_valid), .out_ready_i(b_ready), .out_data_o({b_last, b_data})
  );
  paced_slice #(.WIDTH(25)) u_sum (
    .clk_i(aclk), .rst_ni(aresetn),
    .in_valid_i(pass), .in_ready_o(sum_ready),
    .in_data_i({last, b_data + 24'(a__0_data) + 24'(rom[1])}),
    .out_valid_o(m_axis_sum_tvalid), .out_ready_i(m_axis_sum_tready),
    .out_data_o({m_axis_sum_tlast, m_axis_sum_tdata})
  );
  paced_slice #(.WIDTH(73)) u_echo (
    .clk_i(aclk), .rst_ni(aresetn),
    .in_valid_i(pass), .in_ready_o(echo_ready),
    .in_data_i({last, b_data, a__0_data, b_data, 16'hBEEF}),
    .out_valid_o(m_axis_echo_tvalid), .out_ready_i(m_axis_echo_tready),
    .out_data_o({m_axis_echo_tlast, m_axis_echo_tdata})
  );

`ifndef SYNTHESIS
  always_ff @(posedge aclk) begin
    if (aresetn && pass) begin
      a_in_range: assert (a__0_data != 8'hFF) else $error("a is all ones");
    end
  end
`endif

endmodule
