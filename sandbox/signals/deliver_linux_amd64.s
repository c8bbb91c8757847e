#include "textflag.h"

// deliver is a signal handler: write(deliverTo, &number, 4). The kernel calls it on the thread's alternate stack, with the
// number in DI, all signals blocked, and no g in place; it brings back every register but the stack's itself (sigreturn(2)).
TEXT ·deliver(SB), NOSPLIT|NOFRAME, $0
	SUBQ	$16, SP
	MOVL	DI, 0(SP)
	MOVL	$1, AX // SYS_WRITE
	MOVL	·deliverTo(SB), DI
	MOVQ	SP, SI
	MOVL	$4, DX
	SYSCALL
	ADDQ	$16, SP
	RET

DATA ·deliverPC(SB)/8, $·deliver(SB)
GLOBL ·deliverPC(SB), RODATA, $8
